"""Revisions: their list, what changed between two, and the way back."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from mesh.model.revision import Revision
from mesh.operations.plan import Prepared, refuse_dangling, with_impact
from mesh.operations.state import read_objects, read_revision, read_state
from mesh.planning import keyspace
from mesh.planning.plan import Change, between, detail, restore
from mesh.planning.record import parse_record
from mesh.ports import Store


@dataclass(frozen=True, slots=True)
class Difference:
    """What changed from one revision to another."""

    before: int
    after: int
    changes: tuple[Change, ...]


async def history(store: Store) -> tuple[Revision, ...]:
    """The revisions that are kept, newest first."""
    entries = await store.scan(keyspace.REVISIONS)
    found = (parse_record(entry.value).revision for entry in entries.values())
    return tuple(sorted(found, key=lambda revision: -revision.number))


async def difference(store: Store, before: int, after: int) -> Difference:
    """The changes from revision `before` to revision `after`; 0 is the empty mesh.

    Raises:
        NotFound: one of them is not kept.
    """
    state = await read_state(store)
    old = (await read_revision(store, before, state))[1] if before else {}
    new = (await read_revision(store, after, state))[1] if after else {}
    changes = between(old, new)
    return Difference(before, after, detail(changes, await updated_objects(store, changes)))


async def prepare_rollback(store: Store, number: int, source: str | None) -> Prepared:
    """The plan that brings back revision `number`, of one source or the whole mesh.

    Raises:
        NotFound: the revision is not kept.
        InvalidDocuments: a document of the source belongs to another one today.
    """
    state = await read_state(store)
    past = (await read_revision(store, number, state))[1] if number else {}
    plan = restore(state.manifest, past, base=state.number, change=state.change, source=source)
    refuse_dangling(state.manifest, plan)
    # The plan carries what it brings back: the old revision may be collected before it commits.
    digests = {change.after.digest for change in plan.changes if change.after is not None}
    objects = await read_objects(store, digests)
    changes = detail(plan.changes, objects | await updated_objects(store, plan.changes))
    plan = replace(plan, objects=objects, changes=changes, restores=number)
    return await with_impact(store, plan, state)


async def updated_objects(store: Store, changes: Iterable[Change]) -> dict[str, bytes]:
    """Both sides of every update, by digest."""
    digests = {
        side.digest
        for change in changes
        if change.before is not None and change.after is not None
        for side in (change.before, change.after)
    }
    return await read_objects(store, digests)
