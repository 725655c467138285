"""Planning: what a set of documents would do to the mesh, and to which sidecars."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mesh.diagnostics import Diagnostic, Position, Severity
from mesh.errors import InputError, InvalidDocuments
from mesh.model.revision import Manifest
from mesh.model.status import SidecarStatus
from mesh.operations.drafting import draft
from mesh.operations.provenance import commit_of
from mesh.operations.reading import Reading, read_paths
from mesh.operations.restored import HINT, read_ahead
from mesh.operations.sidecars import concerned, read_members
from mesh.operations.state import State, read_objects, read_state
from mesh.operations.trust import check_trust_domain
from mesh.planning.links import newly_dangling
from mesh.planning.plan import Plan, carry_out, detail, diff
from mesh.ports import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A plan, the state it was made at, the live sidecars that it touches and warnings.

    `ahead` is the newest revision that sidecars report, where that is above the store's own head:
    the store was restored from a backup. 0 otherwise.
    """

    plan: Plan
    state: State
    impact: tuple[SidecarStatus, ...] = ()
    live: int = 0
    ahead: int = 0
    diagnostics: tuple[Diagnostic, ...] = ()


async def prepare(
    store: Store, paths: Sequence[str], source: str, *, allow_empty: bool = False
) -> Prepared:
    """Plan that `source` owns exactly the documents in `paths`.

    Raises:
        InvalidDocuments: the documents have mistakes, alone or beside those of other sources.
        InputError: there is no document at all.
    """
    reading = await asyncio.to_thread(read_paths, paths)
    given = " ".join(f'"{path}"' for path in paths)
    prepared = await prepare_reading(store, reading, source, given, allow_empty=allow_empty)
    commit = await asyncio.to_thread(commit_of, paths)
    return replace(prepared, plan=replace(prepared.plan, commit=commit))


async def prepare_reading(
    store: Store, reading: Reading, source: str, given: str, *, allow_empty: bool = False
) -> Prepared:
    """As `prepare`, with documents that were read already; `given` names where, for messages."""
    state = await read_state(store)
    others = {entry.key: entry for entry in state.manifest.values() if entry.source != source}
    objects = await read_objects(store, {entry.digest for entry in others.values()})
    drafted = draft(reading, existing=others, objects=objects)
    if not drafted.documents and not allow_empty:
        raise InputError(
            f"there is no document in {given}",
            f'see whether the path is right; to delete all that "{source}" owns, --allow-empty',
        )
    plan = diff(
        state.manifest, drafted.desired, base=state.number, change=state.change, source=source
    )
    refuse_dangling(state.manifest, plan)
    await check_trust_domain(store, state.manifest, plan)
    changes = detail(plan.changes, {**plan.objects, **await _old_objects(store, plan)})
    plan = replace(plan, changes=changes, documents=drafted.documents)
    return await with_impact(store, plan, state, drafted.diagnostics)


def refuse_dangling(current: Manifest, plan: Plan) -> None:
    """Refuse a plan that takes away what documents it leaves alone refer to.

    Raises:
        InvalidDocuments: it would; each is told.
    """
    found = newly_dangling(current, carry_out(current, plan))
    if found:
        raise InvalidDocuments(found, plan.documents)


async def with_impact(
    store: Store, plan: Plan, state: State, diagnostics: tuple[Diagnostic, ...] = ()
) -> Prepared:
    """The plan with the live sidecars that it touches."""
    found = await read_members(store)
    after = carry_out(state.manifest, plan)
    ahead = await read_ahead(store, found, state.version)
    live = tuple(member.status for member in found if member.is_alive)
    return Prepared(
        plan=plan,
        state=state,
        impact=live if ahead else concerned(found, state.manifest, after, plan.keys),
        live=len(live),
        ahead=ahead,
        diagnostics=(*diagnostics, *_went_back(state.number, ahead)),
    )


def _went_back(head: int, ahead: int) -> tuple[Diagnostic, ...]:
    if not ahead:
        return ()
    message = f"head is revision {head}, but sidecars run {ahead}: the store went back"
    return (Diagnostic(Position("(store)"), Severity.WARNING, "head-went-back", message, HINT),)


async def _old_objects(store: Store, plan: Plan) -> dict[str, bytes]:
    """The old side of every update; the plan itself has the new one."""
    digests = {
        change.before.digest
        for change in plan.changes
        if change.before is not None and change.after is not None
    }
    return await read_objects(store, digests)
