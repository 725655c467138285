"""Garbage collection takes what nothing leads to, and nothing else."""

from pathlib import Path

from mesh.operations.collect import SILENCE, collect, forget_silent
from mesh.operations.history import history
from mesh.operations.sidecars import read_members
from mesh.operations.state import read_objects, read_revision, read_state
from mesh.planning import keyspace
from mesh.ports import Put, Store, Transaction
from tests.support.faulty_store import FaultyStore
from tests.support.operations import applied, opened, report, service, write
from tests.support.planning import NOON, status


async def revisions(store: Store, folder: Path, count: int) -> None:
    for number in range(count):
        await applied(store, [write(folder / "p", a=service(f"s{number}"))])


async def numbers(store: Store) -> list[int]:
    return [item.number for item in await history(store)]


async def assert_whole(store: Store) -> None:
    """Every kept revision can be read in full."""
    state = await read_state(store)
    for number in await numbers(store):
        _, manifest = await read_revision(store, number, state)
        await read_objects(store, {entry.digest for entry in manifest.values()})


async def test_few_revisions_are_left_alone(tmp_path: Path):
    async with opened(tmp_path) as store:
        await revisions(store, tmp_path, 3)
        assert await collect(store, keep=2, slack=1) == 0
        assert await numbers(store) == [3, 2, 1]


async def test_old_revisions_go_with_what_only_they_led_to(tmp_path: Path):
    async with opened(tmp_path) as store:
        await revisions(store, tmp_path, 5)
        assert await collect(store, keep=2, slack=0) == 3 * 3  # record, chunk and object of each
        assert await numbers(store) == [5, 4]
        assert len(await store.scan(keyspace.OBJECTS)) == 2
        assert len(await store.scan(keyspace.CHUNKS)) == 2
        await assert_whole(store)


async def test_what_was_written_and_never_committed_goes(tmp_path: Path):
    async with opened(tmp_path) as store:
        await revisions(store, tmp_path, 3)
        orphan = keyspace.policy("0" * 64)
        await store.commit(Transaction(puts=(Put(orphan, b"{}"),)))
        await collect(store, keep=1, slack=0)
        assert orphan not in await store.scan(keyspace.OBJECTS)


async def test_what_a_live_sidecar_reports_stays(tmp_path: Path):
    async with opened(tmp_path) as store:
        await revisions(store, tmp_path, 6)
        await report(store, status("live", revision=2, seen=3))
        await report(store, status("dead", revision=1, seen=1), alive=False)
        await collect(store, keep=2, slack=0)
        assert await numbers(store) == [6, 5, 3, 2]
        await assert_whole(store)


async def test_a_commit_in_between_ends_the_collection_unharmed(tmp_path: Path):
    async with opened(tmp_path) as store:
        await revisions(store, tmp_path, 5)

        class Raced(FaultyStore):
            async def commit(self, transaction: Transaction) -> None:
                # Revision 6 brings back what only revision 1 leads to: garbage a moment ago.
                await applied(store, [write(tmp_path / "p", a=service("s0"))])
                await super().commit(transaction)

        assert await collect(Raced(store), keep=2, slack=0) == 0
        await assert_whole(store)
        assert (await numbers(store))[0] == 6


async def test_apply_collects_behind_itself(tmp_path: Path):
    async with opened(tmp_path) as store:
        await revisions(store, tmp_path, 111)
        assert len(await numbers(store)) == 100


async def test_a_sidecar_that_has_been_silent_for_a_day_is_forgotten(tmp_path: Path):
    async with opened(tmp_path) as store:
        await report(store, status("gone", time=NOON - SILENCE), alive=False)
        await report(store, status("silent", time=NOON), alive=False)
        await report(store, status("live", time=NOON - SILENCE))
        assert await forget_silent(store, NOON) == 1
        assert [item.status.id for item in await read_members(store)] == ["live", "silent"]
