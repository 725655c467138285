"""One plan, one revision: races, silence and crashes never leave half of it."""

from collections.abc import Collection
from pathlib import Path

import pytest

from mesh.errors import Denied, OutcomeUnknown, OutsideError, StalePlan, Unavailable
from mesh.operations.collect import collect
from mesh.operations.commit import Note, commit
from mesh.operations.state import State, read_objects, read_state
from mesh.planning import keyspace
from mesh.planning.plan import Plan, diff
from mesh.ports import Entry, Put, Store, Transaction
from tests.support.faulty_store import Fault, FaultyStore
from tests.support.operations import opened
from tests.support.planning import StillClock, desired, key, wanted

NOTE = Note(author="alice", message="add canary")


def planned(state: State, *names: str, content: str = "") -> Plan:
    want = wanted(*(desired(f"Service/default/{name}", content) for name in names))
    return diff(state.manifest, want, base=state.number, change=state.change, source="main")


async def committed(store: Store, *names: str, content: str = "") -> int:
    state = await read_state(store)
    revision = await commit(
        store, StillClock(), state, planned(state, *names, content=content), NOTE
    )
    return revision.number


async def whole(store: Store) -> dict[str, bytes]:
    """Names and contents of what is in force; raises if anything of it is missing."""
    state = await read_state(store)
    objects = await read_objects(store, {item.digest for item in state.manifest.values()})
    return {item.key.name: objects[item.digest] for item in state.manifest.values()}


def is_commit_point(transaction: Transaction) -> bool:
    return any(put.key == keyspace.HEAD for put in transaction.puts)


async def test_a_commit_is_a_revision_with_its_record_in_the_history(tmp_path: Path):
    async with opened(tmp_path) as store:
        assert await committed(store, "a", "b") == 1
        state = await read_state(store)
        assert state.head is not None
        revision = state.head.revision
        assert (revision.created, revision.parent, revision.author) == (2, 0, "alice")
        assert (await whole(store)).keys() == {"a", "b"}
        history = await store.scan(keyspace.REVISIONS)
        assert list(history) == [keyspace.revision(1)]


async def test_a_plan_at_another_base_is_stale_and_says_who_moved_head(tmp_path: Path):
    async with opened(tmp_path) as store:
        state = await read_state(store)
        await committed(store, "a")
        moved = await read_state(store)
        with pytest.raises(StalePlan, match=r"from 0 to 1 by alice, \"add canary\""):
            await commit(store, StillClock(), moved, planned(state, "b"), NOTE)


async def test_a_lost_race_is_stale_and_says_who_won(tmp_path: Path):
    async with opened(tmp_path) as store:
        state = await read_state(store)
        await committed(store, "a")
        with pytest.raises(StalePlan, match="by alice"):
            await commit(store, StillClock(), state, planned(state, "b"), NOTE)
        assert (await whole(store)).keys() == {"a"}


async def test_an_unknown_outcome_that_was_applied_is_found_out(tmp_path: Path):
    async with opened(tmp_path) as store:
        faulty = FaultyStore(
            store,
            lambda _, what: Fault(OutcomeUnknown("slow"), True) if is_commit_point(what) else None,
        )
        assert await committed(faulty, "a") == 1
        assert await committed(store, "b") == 2


async def test_an_unknown_outcome_that_was_applied_and_overtaken_is_found_out(tmp_path: Path):
    async with opened(tmp_path) as store:

        class Overtaken(FaultyStore):
            async def commit(self, transaction: Transaction) -> None:
                await super().commit(transaction)
                if is_commit_point(transaction):
                    await committed(store, "other")
                    raise OutcomeUnknown("slow")

        assert await committed(Overtaken(store), "a") == 1
        assert (await whole(store)).keys() == {"other"}


async def test_an_unknown_outcome_that_was_not_applied_is_tried_again(tmp_path: Path):
    async with opened(tmp_path) as store:
        failures = iter([OutcomeUnknown("slow"), OutcomeUnknown("slow")])
        faulty = FaultyStore(
            store,
            lambda _, what: (
                Fault(error)
                if is_commit_point(what) and (error := next(failures, None)) is not None
                else None
            ),
        )
        assert await committed(faulty, "a") == 1
        assert len(await store.scan(keyspace.REVISIONS)) == 1


@pytest.mark.parametrize("error", [Unavailable("away"), Denied("revoked")])
async def test_what_cannot_be_settled_by_reading_stays_unknown(tmp_path: Path, error: OutsideError):
    async with opened(tmp_path) as store:

        class Gone(FaultyStore):
            async def commit(self, transaction: Transaction) -> None:
                await super().commit(transaction)
                if is_commit_point(transaction):
                    self.is_gone = True
                    raise OutcomeUnknown("slow")

            is_gone = False

            async def fetch(self, keys: Collection[str]) -> dict[str, Entry]:
                if self.is_gone:
                    raise error
                return await super().fetch(keys)

        with pytest.raises(OutcomeUnknown, match=f"revision 1 was committed .*: {error.message}"):
            await committed(Gone(store), "a")
        assert (await read_state(store)).number == 1


async def test_a_store_that_never_commits_is_unavailable(tmp_path: Path):
    async with opened(tmp_path) as store:
        faulty = FaultyStore(
            store, lambda _, what: Fault(OutcomeUnknown("slow")) if is_commit_point(what) else None
        )
        with pytest.raises(Unavailable):
            await committed(faulty, "a")
        assert (await read_state(store)).head is None


async def test_silence_while_writing_is_repeated_once_and_then_told(tmp_path: Path):
    async with opened(tmp_path) as store:
        once = FaultyStore(
            store, lambda number, _: Fault(OutcomeUnknown("slow")) if number == 1 else None
        )
        assert await committed(once, "a") == 1
        always = FaultyStore(store, lambda *_: Fault(OutcomeUnknown("slow")))
        with pytest.raises(Unavailable) as caught:
            await committed(always, "b")
        assert "nothing was applied" in caught.value.hint


async def test_garbage_collected_during_the_writes_is_written_again(tmp_path: Path):
    async with opened(tmp_path) as store:
        for name in ("a", "b", "c"):
            await committed(store, name)

        class Swept(FaultyStore):
            async def commit(self, transaction: Transaction) -> None:
                if is_commit_point(transaction) and self.commits < 3:
                    assert await collect(store, keep=1, slack=0) > 0
                await super().commit(transaction)

        swept = Swept(store)
        assert await committed(swept, "d") == 4
        assert swept.commits > 2
        assert (await whole(store)).keys() == {"d"}


@pytest.mark.parametrize("count", [1, 128, 129, 700])
async def test_a_crash_at_any_commit_leaves_the_old_or_the_new_set(tmp_path: Path, count: int):
    async with opened(tmp_path) as store:
        await committed(store, "old")
        names = [f"s{number}" for number in range(count)]
        at = 0
        while True:
            at += 1

            def crash(number: int, _: Transaction, at: int = at) -> Fault | None:
                return Fault(RuntimeError("crashed")) if number >= at else None

            try:
                await committed(FaultyStore(store, crash), *names)
            except (RuntimeError, ExceptionGroup):
                assert (await whole(store)).keys() == {"old"}
            else:
                break
        assert (await whole(store)).keys() == set(names)
        assert at > 1


async def test_objects_of_more_than_a_request_are_committed(tmp_path: Path):
    async with opened(tmp_path) as store:
        names = [f"s{number}" for number in range(8)]
        assert await committed(store, *names, content="x" * 400_000) == 1
        assert sum(map(len, (await whole(store)).values())) > 3_000_000


async def test_a_revision_of_another_store_is_stale(tmp_path: Path):
    async with opened(tmp_path / "one") as one, opened(tmp_path / "two") as two:
        await committed(one, "a")
        await committed(two, "b")
        state = await read_state(two)
        with pytest.raises(StalePlan, match="another"):
            await commit(two, StillClock(), state, planned(await read_state(one), "c"), NOTE)


async def test_a_missing_part_of_the_store_is_told(tmp_path: Path):
    async with opened(tmp_path) as store:
        await committed(store, "a")
        chunks = await store.scan(keyspace.CHUNKS, keys_only=True)
        await store.commit(Transaction(deletes=tuple(chunks)))
        with pytest.raises(Exception, match="not in the store"):
            await read_state(store)


async def test_an_age_survives_an_update(tmp_path: Path):
    async with opened(tmp_path) as store:
        await committed(store, "a")
        await committed(store, "a", content="new")
        assert (await read_state(store)).manifest[key("Service/default/a")].introduced == 1


async def test_the_head_of_somebody_else_is_not_overwritten(tmp_path: Path):
    async with opened(tmp_path) as store:
        await store.commit(Transaction(puts=(Put(keyspace.HEAD, b"garbage"),)))
        with pytest.raises(Exception, match="record cannot be read"):
            await committed(store, "a")
