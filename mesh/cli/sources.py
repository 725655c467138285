"""Sources that follow git, as text and as JSON from one value."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from mesh.cli import console
from mesh.cli.console import GREEN, JSON, RED, YELLOW, paint
from mesh.model.source import SourceStatus, SyncState
from mesh.operations.sources import Followed

_STATES = {
    SyncState.SYNCED: GREEN,
    SyncState.REFUSED: RED,
    SyncState.UNREACHABLE: YELLOW,
    SyncState.HELD: YELLOW,
    SyncState.DRIFTED: YELLOW,
    SyncState.REJECTED: RED,
}
_SHORT = 12


def source_json(status: SourceStatus) -> dict[str, JSON]:
    """A report as programs read it."""
    commit = status.commit
    return {
        "source": status.source,
        "repository": status.repository,
        "branch": status.branch,
        "path": status.path,
        "state": status.state.value,
        "commit": None
        if commit is None
        else {
            "id": commit.id,
            "author": commit.author,
            "subject": commit.subject,
            "time": _instant(commit.time),
        },
        "applied": status.applied,
        "revision": status.revision,
        "held": status.held or None,
        "code": status.code or None,
        "message": status.message or None,
        "hint": status.hint or None,
        "diagnostics": [console.diagnostic_json(item) for item in status.diagnostics],
        "since": _instant(status.since),
        "checked": None if status.checked is None else _instant(status.checked),
    }


def followed_json(followed: Sequence[Followed]) -> list[JSON]:
    """The sources of a status; `leader` is null while no sync works on one."""
    return [source_json(item.status) | {"leader": item.leader} for item in followed]


def followed_text(followed: Sequence[Followed]) -> Iterator[str]:
    """The sources of a status, each with what is wrong with it."""
    head = ("SOURCE", "STATE", "COMMIT", "APPLIED", "REVISION", "CHECKED", "SYNC")
    lines = console.table([head, *(_row(item) for item in followed)]).splitlines()
    yield lines[0]
    for line, item in zip(lines[1:], followed, strict=True):
        state = item.status.state
        yield line.replace(f" {state} ", f" {paint(state, _STATES[state])} ", 1)
        yield from (f"    {text}" for text in _reasons(item.status))


def source_line(status: SourceStatus) -> str:
    """A report in one line."""
    commit = status.commit
    what = f"{commit.id[:_SHORT]} by {commit.author}: {commit.subject}" if commit else "no commit"
    state = paint(status.state, _STATES[status.state])
    if status.state is SyncState.SYNCED:
        return f"{status.source}: {state} at revision {status.revision} with {what}"
    stays = f"revision {status.revision} stays" if status.revision else "nothing is applied"
    return f"{status.source}: {state}, {stays}; {what}"


def _row(item: Followed) -> tuple[str, ...]:
    status = item.status
    return (
        status.source,
        status.state.value,
        status.commit.id[:_SHORT] if status.commit else "-",
        status.applied[:_SHORT] if status.applied else "-",
        str(status.revision) if status.revision else "-",
        f"{status.checked.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}" if status.checked else "never",
        item.leader or "none runs",
    )


def _reasons(status: SourceStatus) -> Iterator[str]:
    if status.message:
        yield status.message
    for diagnostic in status.diagnostics:
        yield from str(diagnostic).splitlines()
    if status.hint:
        yield f"hint: {status.hint}"


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
