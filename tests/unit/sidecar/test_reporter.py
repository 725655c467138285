import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta

from mesh.errors import LeaseLost
from mesh.latest import Latest
from mesh.model.identity import ServiceName
from mesh.model.policy import Address
from mesh.model.status import SidecarStatus
from mesh.operations.sidecars import Member, members
from mesh.planning import keyspace
from mesh.planning.status_codec import decode_status
from mesh.ports import Clock, LeaseId, Store, Transaction
from mesh.sidecar.reporter import RENEWAL, Reporter
from mesh.sidecar.retry import FIRST_DELAY
from tests.support.faulty_store import FaultyStore
from tests.support.manual_clock import ManualClock
from tests.support.revisions import QUICK, Commits, once


class Describing:
    """What there is to report."""

    def __init__(self) -> None:
        self.revision = 1
        self.seen: int | None = None
        self.asked: Latest[int] = Latest(0)

    def __call__(self, now: datetime) -> SidecarStatus:
        self.asked.set(self.asked.value + 1)
        return SidecarStatus(
            id="one",
            service=ServiceName("default", "web"),
            revision=self.revision,
            seen=self.revision if self.seen is None else self.seen,
            inbound=None,
            outbound=Address("127.0.0.1", 1),
            time=now,
        )


@contextlib.asynccontextmanager
async def reporting(
    store: Store, describing: Describing, owner: str = "us", clock: Clock = QUICK
) -> AsyncIterator[Reporter]:
    reporter = Reporter(store, clock, id="one", owner=owner, describe=describing)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(reporter.run())
        yield reporter
        running.cancel()


async def member(store: Store, holds: Callable[[tuple[Member, ...]], bool]) -> None:
    async with asyncio.timeout(10):
        async for watched in store.watch(keyspace.SIDECARS):
            if holds(members(watched.entries)):
                return


async def test_a_change_is_reported_at_once_and_an_end_takes_all_back(commits: Commits) -> None:
    describing = Describing()
    async with reporting(commits.store, describing) as reporter:
        await member(commits.store, lambda m: bool(m) and m[0].is_alive)
        describing.revision = 2
        reporter.changed()
        await member(commits.store, lambda m: m[0].status.revision == 2)
        await reporter.withdraw()
        reporter.changed()
        assert not await commits.store.scan(keyspace.SIDECARS)
    assert not await commits.store.scan(keyspace.SIDECARS)


async def test_the_next_agent_of_a_folder_takes_over_at_once(commits: Commits) -> None:
    async with reporting(commits.store, Describing()):
        await member(commits.store, bool)
    describing = Describing()
    describing.revision = 5
    async with reporting(commits.store, describing):
        await member(commits.store, lambda m: m[0].status.revision == 5)


async def test_a_second_sidecar_with_the_id_reports_nothing_until_the_first_is_gone(
    commits: Commits,
) -> None:
    theirs = Describing()
    theirs.revision = 9
    async with reporting(commits.store, Describing(), "us") as ours:
        await member(commits.store, bool)
        async with reporting(commits.store, theirs, "them"):
            ours.changed()
            alive = keyspace.sidecar("one", keyspace.ALIVE)
            assert (await commits.store.fetch([alive]))[alive].value == b"us"
            await commits.store.commit(Transaction(deletes=(alive,)))
            await member(commits.store, lambda m: m[0].status.revision == 9)


async def test_who_holds_an_id_is_known_once_the_store_has_said(commits: Commits) -> None:
    async with reporting(commits.store, Describing(), "us") as ours:
        assert await once(ours.holds, lambda holds: holds is not None)
        async with reporting(commits.store, Describing(), "them") as theirs:
            assert not await once(theirs.holds, lambda holds: holds is not None)
            await ours.withdraw()
            assert await once(theirs.holds, bool)


class Forgetful(FaultyStore):
    """A store whose leases have always run out when they are to be renewed."""

    async def lease(self, ttl: timedelta, renew: LeaseId | None = None) -> LeaseId:
        if renew is not None:
            raise LeaseLost("it has run out")
        return await super().lease(ttl)


async def test_who_slept_for_longer_than_its_lease_reports_almost_at_once(commits: Commits) -> None:
    describing, clock = Describing(), ManualClock()
    async with reporting(Forgetful(commits.store), describing, clock=clock) as reporter:
        await member(commits.store, bool)
        describing.revision = 2
        reporter.changed()
        await member(commits.store, lambda m: m[0].status.revision == 2)
        clock.advance(RENEWAL)
        describing.revision = 3
        reporter.changed()
        async with asyncio.timeout(10):
            await clock.until_asleep()
        clock.advance(FIRST_DELAY)
        await member(commits.store, lambda m: m[0].status.revision == 3)


async def reported(store: Store) -> SidecarStatus:
    key = keyspace.sidecar("one", keyspace.STATUS)
    return decode_status((await store.fetch([key]))[key].value)


async def test_a_store_that_answers_at_once_is_told_a_storm_as_it_comes(commits: Commits) -> None:
    describing, clock = Describing(), ManualClock()
    async with reporting(commits.store, describing, clock=clock) as reporter:
        await member(commits.store, bool)
        for revision in range(2, 40):
            describing.revision = revision
            reporter.changed()
            await once(reporter.written, lambda s, n=revision: s is not None and s.revision == n)
            clock.advance(timedelta(milliseconds=100))


async def test_a_slow_store_is_told_some_changes_at_once_and_a_storm_once_a_second(
    commits: Commits,
) -> None:
    describing, clock = Describing(), ManualClock()
    slow = FaultyStore(commits.store, lambda *_: clock.advance(timedelta(milliseconds=50)))
    async with reporting(slow, describing, clock=clock) as reporter:
        await member(commits.store, bool)
        for revision in (2, 3):
            describing.revision = revision
            reporter.changed()
            await member(commits.store, lambda m, n=revision: m[0].status.revision == n)
        describing.revision = 4
        reporter.changed()
        await clock.until_asleep()
        assert (await reported(commits.store)).revision == 3
        describing.revision = 5
        reporter.changed()
        clock.advance(timedelta(seconds=1))
        await member(commits.store, lambda m: m[0].status.revision == 5)


async def test_what_envoy_is_about_to_take_is_told_together_with_that_it_did(
    commits: Commits,
) -> None:
    describing = Describing()
    async with reporting(commits.store, describing) as reporter:
        await member(commits.store, bool)
        before = describing.asked.value
        describing.seen = 2
        reporter.changed()
        await once(describing.asked, lambda asked: asked > before)
        assert (await reported(commits.store)).seen == 1
        describing.revision = 2
        reporter.changed()
        await member(commits.store, lambda m: m[0].status.revision == 2)


async def test_what_envoy_does_not_answer_is_told_all_the_same(commits: Commits) -> None:
    describing = Describing()
    async with reporting(commits.store, describing) as reporter:
        await member(commits.store, bool)
        describing.seen = 2
        reporter.changed()
        await member(commits.store, lambda m: m[0].status.seen == 2)
        assert (await reported(commits.store)).revision == 1
