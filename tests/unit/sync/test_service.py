"""A sync as a service: it looks, is woken, elects one, and ends cleanly."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from mesh.errors import OutsideError, Unavailable
from mesh.latest import Latest
from mesh.model.source import SourceStatus, SyncState
from mesh.operations.history import history
from mesh.operations.sources import read_sources
from mesh.planning import keyspace
from mesh.ports import Put, Transaction
from mesh.sync.options import SyncOptions, SyncPorts
from mesh.sync.service import SyncService
from mesh.sync.single import once
from tests.support.operations import opened, service
from tests.support.repositories import Origin
from tests.support.revisions import once as when
from tests.support.syncs import Reports, options

SELDOM = timedelta(minutes=10)


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin.make(tmp_path / "origin")


@asynccontextmanager
async def running(given: SyncOptions, ports: SyncPorts) -> AsyncIterator[SyncService]:
    sync = SyncService(given, ports)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(sync.run())
        try:
            yield sync
        finally:
            task.cancel()


async def told(
    newest: Latest[SourceStatus | None], holds: Callable[[SourceStatus], bool]
) -> SourceStatus:
    found = await when(newest, lambda status: status is not None and holds(status))
    assert found is not None
    return found


async def test_commits_are_noticed_by_looking(origin: Origin, tmp_path: Path):
    first = origin.commit("one", a=service("api"))
    reports = Reports()
    async with running(options(), reports.ports(origin, tmp_path)):
        await told(reports.newest, lambda status: status.applied == first)
        second = origin.commit("two", a=service("web"))
        status = await told(reports.newest, lambda status: status.applied == second)
        assert status.revision == 2


async def test_a_call_makes_it_look_at_once(origin: Origin, tmp_path: Path):
    first = origin.commit("one", a=service("api"))
    reports = Reports()
    async with running(options(interval=SELDOM), reports.ports(origin, tmp_path)) as sync:
        await told(reports.newest, lambda status: status.applied == first)
        second = origin.commit("two", a=service("web"))
        await sync.wake()
        await told(reports.newest, lambda status: status.applied == second)
        assert sync.counters.applied == 2
        assert sync.counters.webhooks == 1


async def test_of_two_one_leads_and_the_other_passes_calls_on_and_takes_over(
    origin: Origin, tmp_path: Path
):
    first = origin.commit("one", a=service("api"))
    reports = Reports()
    ann = reports.ports(origin, tmp_path)
    bob = reports.ports(origin, tmp_path, "other-cache")
    async with (
        running(options(name="bob", interval=SELDOM), bob) as leader,
        opened(tmp_path) as store,
    ):
        await told(reports.newest, lambda status: status.applied == first)
        async with running(options(name="ann", interval=SELDOM), ann) as second:
            (followed,) = await read_sources(store)
            assert followed.leader == "bob"
            id = origin.commit("two", a=service("web"))
            await second.wake()
            await told(reports.newest, lambda status: status.applied == id)
            assert leader.counters.is_leading
            assert not second.counters.is_leading
    # Who leads gives the lead back when it ends.
    async with opened(tmp_path) as store:
        (followed,) = await read_sources(store)
        assert followed.leader is None
    async with running(options(name="ann"), ann):
        third = origin.commit("three", a=service("stock"))
        await told(reports.newest, lambda status: status.applied == third)
        async with opened(tmp_path) as store:
            (followed,) = await read_sources(store)
            assert followed.leader == "ann"
            assert len(await history(store)) == 3


async def test_a_repository_that_is_away_is_told_once_and_found_again(
    origin: Origin, tmp_path: Path
):
    id = origin.commit("one", a=service("api"))
    reports = Reports()
    async with running(options(interval=SELDOM), reports.ports(origin, tmp_path)) as sync:
        await told(reports.newest, lambda status: status.applied == id)
        origin.folder.rename(tmp_path / "moved")
        await sync.wake()
        status = await told(reports.newest, lambda status: status.state is SyncState.UNREACHABLE)
        assert status.applied == id
        (tmp_path / "moved").rename(origin.folder)
        # Not after the interval: failures are tried again soon.
        await told(reports.newest, lambda status: status.state is SyncState.SYNCED)


async def test_without_a_store_it_does_not_start(origin: Origin, tmp_path: Path):
    (tmp_path / "mesh.db").mkdir()
    sync = SyncService(options(), Reports().ports(origin, tmp_path))
    with pytest.raises(OutsideError):
        await sync.run()


async def test_once_looks_once_and_reports(origin: Origin, tmp_path: Path):
    id = origin.commit("one", a=service("api"))
    reports = Reports()
    looked = await once(options(), reports.ports(origin, tmp_path))
    assert (looked.error, looked.status.applied) == (None, id)
    assert reports.newest.value == looked.status
    origin.commit("bad", a="kind: Service")
    looked = await once(options(), reports.ports(origin, tmp_path))
    assert looked.error is not None
    assert looked.error.exit_code == 1
    async with opened(tmp_path) as store:
        (followed,) = await read_sources(store)
        assert followed.status == looked.status
        assert followed.leader is None


async def test_once_leaves_a_source_that_is_led_alone(origin: Origin, tmp_path: Path):
    origin.commit("one", a=service("api"))
    async with opened(tmp_path) as store:
        key = keyspace.sync("main", keyspace.LEADER)
        await store.commit(Transaction(puts=(Put(key, b'{"name": "ann"}'),)))
        ports = Reports().ports(origin, tmp_path)
        with pytest.raises(Unavailable, match='"ann" already syncs "main"'):
            await once(options(), ports, patience=timedelta(milliseconds=100))
        assert await history(store) == ()
