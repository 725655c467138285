"""One plan becomes one revision: everything it needs first, then a single compare-and-set.

Objects and parts of the manifest are content-addressed, so writing them twice does no harm and
readers see nothing of them before `head` leads there. The commit on `head` expects the version
that the plan was made at, and that no garbage was collected meanwhile: what was written may have
looked like garbage.
"""

import random
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from mesh.errors import Conflict, OutcomeUnknown, OutsideError, StalePlan, Unavailable
from mesh.model.revision import Revision
from mesh.operations.concurrency import for_each
from mesh.operations.state import State, read_head, read_objects
from mesh.planning import keyspace
from mesh.planning.enclosure import enclose
from mesh.planning.manifest import batches, write
from mesh.planning.plan import Act, Plan, carry_out
from mesh.planning.record import Head, parse_record
from mesh.ports import Clock, Put, Store, Transaction

ATTEMPTS = 12
# A store that is out of reach answers a read after seconds: some twenty in all.
LOOKS = 5
WRITES_AT_ONCE = 4
ENCLOSED_MOST = 20
_PAUSE = timedelta(milliseconds=50)
_LONGEST_PAUSE = timedelta(seconds=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What a person says about a revision."""

    author: str
    message: str = ""
    source: str = "main"


async def commit(
    store: Store,
    clock: Clock,
    state: State,
    plan: Plan,
    note: Note,
    *,
    fence: Mapping[str, int] | None = None,
    above: int = 0,
) -> Revision:
    """Make `plan` the next revision; `state` is that of its base. Its number is above the base's
    and above `above`, what sidecars are known to run. `fence` maps further keys to
    the versions that they must have at that moment: who lost a lease writes nothing any more.

    Raises:
        Conflict: the fence does not hold.
        StalePlan: head is another revision than the plan's base, or moved while we wrote.
        OutcomeUnknown: the store answered neither the commit nor a read afterwards.
    """
    if (plan.base, plan.base_change) != (state.number, state.change):
        raise stale(plan.base, state.head)
    revision = _revision(clock, plan, note, max(plan.base, above) + 1)
    change = uuid.uuid4().hex
    origin = (state.head.origin or state.head.change) if state.head else change
    written = write(carry_out(state.manifest, plan), revision, change, origin)
    parts = {d: data for d, data in written.parts.items() if d not in state.parts}
    enclosure = enclose({**parts, **plan.objects, **await _restored(store, plan)})
    writes = {keyspace.policy(digest): data for digest, data in plan.objects.items()}
    writes |= {keyspace.chunk(digest): data for digest, data in parts.items()}
    for attempt in range(ATTEMPTS):
        collection = await _version(store, keyspace.COLLECTION)
        await _prepare(store, writes)
        transaction = Transaction(
            expect={
                **(fence or {}),
                keyspace.HEAD: state.version,
                keyspace.COLLECTION: collection,
            },
            puts=(
                Put(keyspace.HEAD, written.record),
                Put(keyspace.ENCLOSED, enclosure),
                Put(keyspace.revision(revision.number), written.record),
            ),
        )
        try:
            await store.commit(transaction)
        except (Conflict, OutcomeUnknown):
            if await _is_done(store, clock, state, change, revision.number):
                return revision
            await _check_fence(store, fence or {})
        else:
            return revision
        await clock.sleep(_pause(attempt))
    raise Unavailable(
        f"the store did not take the commit in {ATTEMPTS} tries", "nothing was applied; try again"
    )


def stale(base: int, head: Head | None) -> StalePlan:
    """Says who moved head since `base`."""
    hint = "make the plan again and look at it"
    if head is None:
        return StalePlan(f"plan outdated: it was made at revision {base} of another store", hint)
    revision = head.revision
    if revision.number == base:
        return StalePlan(f"plan outdated: revision {base} of this store is another one", hint)
    return StalePlan(
        f"plan outdated: head moved from {base} to {revision.number} by {revision.author}, "
        f'"{revision.message}", {revision.time.isoformat(timespec="seconds")}',
        hint,
    )


def _revision(clock: Clock, plan: Plan, note: Note, number: int) -> Revision:
    return Revision(
        number=number,
        parent=plan.base,
        time=clock.now(),
        author=note.author,
        message=note.message,
        source=note.source,
        commit=plan.commit,
        created=plan.count(Act.CREATE),
        updated=plan.count(Act.UPDATE),
        deleted=plan.count(Act.DELETE),
        restores=plan.restores,
    )


async def _restored(store: Store, plan: Plan) -> dict[str, bytes]:
    """What the changes bring back that the store has: of a rollback, and only if it is little."""
    digests = {change.after.digest for change in plan.changes if change.after}
    lacking = digests - plan.objects.keys()
    return await read_objects(store, lacking) if len(lacking) <= ENCLOSED_MOST else {}


async def _prepare(store: Store, writes: dict[str, bytes]) -> None:
    """Write what the record will lead to. An unknown outcome is repeated: it does no harm."""

    async def put(batch: dict[str, bytes]) -> None:
        transaction = Transaction(puts=tuple(Put(key, value) for key, value in batch.items()))
        try:
            await store.commit(transaction)
        except OutcomeUnknown:
            await _again(store, transaction)

    await for_each(put, batches(writes), at_once=WRITES_AT_ONCE)


async def _again(store: Store, transaction: Transaction) -> None:
    try:
        await store.commit(transaction)
    except OutcomeUnknown as error:
        raise Unavailable(
            f"the store does not take the documents: {error.message}",
            "nothing was applied; try again",
        ) from error


async def _is_done(store: Store, clock: Clock, state: State, change: str, number: int) -> bool:
    """Settle a commit that was refused or not answered: True if it took place after all, False
    if it may be tried again.

    Raises:
        StalePlan: somebody else's commit took its place.
        OutcomeUnknown: the store cannot be read either.
    """
    why = ""
    for attempt in range(LOOKS):
        try:
            head, version = await read_head(store)
            if version == state.version:
                return False
            if head is not None and await _is_ours(store, head, number, change):
                return True
        except OutsideError as error:
            why = error.message
            await clock.sleep(_pause(attempt))
        else:
            raise stale(state.number, head)
    raise OutcomeUnknown(
        f"whether revision {number} was committed is unknown, for the store cannot be read: {why}",
        "run the same command again when the store is back; it tells whether anything is left",
    )


async def _is_ours(store: Store, head: Head, number: int, change: str) -> bool:
    if head.change == change:
        return True
    key = keyspace.revision(number)
    entry = (await store.fetch([key])).get(key)
    return entry is not None and parse_record(entry.value).change == change


async def _check_fence(store: Store, fence: Mapping[str, int]) -> None:
    found = await store.fetch(fence) if fence else {}
    for key, version in fence.items():
        if (found[key].version if key in found else 0) != version:
            raise Conflict(f'"{key}" changed hands; nothing was written')


async def _version(store: Store, key: str) -> int:
    entry = (await store.fetch([key])).get(key)
    return entry.version if entry else 0


def _pause(attempt: int) -> timedelta:
    """Exponential, capped, spread: rivals do not meet again."""
    spread: float = random.uniform(0.5, 1)  # noqa: S311 (not a secret)
    pause: timedelta = min(_PAUSE * 2**attempt, _LONGEST_PAUSE)
    return pause * spread
