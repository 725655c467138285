"""What a sync reports."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from mesh.diagnostics import Diagnostic, Severity
from mesh.errors import Drifted, Held, InputError, InvalidDocuments, MeshError
from mesh.model.source import GitCommit, SourceStatus, SyncState
from mesh.operations.acceptance import Acceptance
from mesh.planning import keyspace
from mesh.planning.plan import Act, Change
from mesh.planning.source_codec import encode_source
from mesh.ports import Put, Store, Transaction
from mesh.sync.options import SyncOptions

MOST_DIAGNOSTICS = 100
_WOULD = {
    Act.CREATE: "is in the commit and not in the mesh",
    Act.UPDATE: "differs between the commit and the mesh",
    Act.DELETE: "is in the mesh and not in the commit",
}
# States that stand until the commit or head changes; the others are looked into every time.
_FINAL = (SyncState.SYNCED, SyncState.HELD, SyncState.DRIFTED, SyncState.REJECTED)


def is_final(last: SourceStatus, commit: GitCommit, head: int) -> bool:
    """Whether the last report said all that there is to say of this commit at this head."""
    is_same = last.commit is not None and last.commit.id == commit.id
    return is_same and last.head == head and last.state in _FINAL


def standing_error(last: SourceStatus) -> MeshError | None:
    """The error that a report tells, as an error again."""
    match last.state:
        case SyncState.HELD:
            return Held(last.message, last.hint)
        case SyncState.DRIFTED:
            return Drifted(last.message, last.hint)
        case _:
            return None


def good(
    report: SourceStatus, commit: GitCommit, revision: int, head: int,
    diagnostics: tuple[Diagnostic, ...],
) -> SourceStatus:  # fmt: skip
    """The mesh has what the commit says."""
    return replace(report, applied=commit.id, revision=revision, head=head, diagnostics=diagnostics)


def kept(
    report: SourceStatus, changes: Iterable[Change], head: int, held: int
) -> tuple[SourceStatus, InputError]:
    """The mesh keeps what it has, although the commit says something else."""
    found = tuple(_difference(change) for change in changes)
    commit = report.commit.id[:12] if report.commit else ""
    error: InputError
    if held:
        error = Held(
            f'revision {held} rolled "{report.source}" back: commit {commit} is not applied again',
            "push a newer commit, or start the sync with --resume",
        )
    else:
        error = Drifted(
            f'{len(found)} documents of "{report.source}" were changed by hand since commit '
            f"{commit} was applied",
            "commit the change to git, or let --drift repair undo it",
        )
    return replace(told(report, error, found), head=head, held=held), error


def told(
    report: SourceStatus, error: MeshError, found: tuple[Diagnostic, ...] = ()
) -> SourceStatus:
    """The report with an error's words, and its diagnostics up to a bound."""
    message = error.message
    if isinstance(error, InvalidDocuments):
        found = error.diagnostics
        count = sum(item.severity is Severity.ERROR for item in found)
        noun = "mistake" if count == 1 else "mistakes"
        message = f"{count} {noun} in the commit's {error.documents} documents; nothing changes"
    return replace(
        report,
        code=error.code,
        message=message,
        hint=error.hint,
        diagnostics=found[:MOST_DIAGNOSTICS],
    )


def rejected(report: SourceStatus, found: Acceptance, now: datetime) -> SourceStatus:
    """The commit was applied, and sidecars refuse it."""
    names = ", ".join(found.rejected)
    return replace(
        report,
        state=SyncState.REJECTED,
        since=now,
        code="not-accepted",
        message=f"revision {report.revision} is rejected by {names}",
        hint="mend what the diagnostics name, or revert the commit",
        diagnostics=found.diagnostics[:MOST_DIAGNOSTICS],
    )


def says_new(report: SourceStatus, last: SourceStatus) -> bool:
    """Whether a report differs in more than when it was made."""
    return replace(report, checked=None, head=0) != replace(last, checked=None, head=0)


async def write_report(store: Store, report: SourceStatus) -> None:
    """Make the report what `mesh status` shows."""
    key = keyspace.sync(report.source, keyspace.STATUS)
    await store.commit(Transaction(puts=(Put(key, encode_source(report)),)))


def blank(
    options: SyncOptions,
    last: SourceStatus | None,
    commit: GitCommit | None,
    state: SyncState,
    now: datetime,
) -> SourceStatus:
    """What every report says; what the last one knew of the mesh is kept."""
    is_same = last is not None and last.state is state
    return SourceStatus(
        source=options.source,
        repository=options.repository,
        branch=options.branch,
        path=options.path,
        state=state,
        commit=commit,
        applied=last.applied if last else None,
        revision=last.revision if last else 0,
        head=last.head if last else 0,
        since=last.since if last is not None and is_same else now,
        checked=(last.checked if last else None) if state is SyncState.UNREACHABLE else now,
    )


def _difference(change: Change) -> Diagnostic:
    return Diagnostic(
        change.entry.position,
        Severity.WARNING,
        "drifted",
        f"{change.key} {_WOULD[change.act]}",
    )
