import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import count

from mesh.adapters.embedded import EmbeddedStore
from mesh.errors import Unavailable
from mesh.planning import keyspace
from mesh.ports import Entry, Put, Transaction, Watched
from mesh.sidecar.head import BEHIND, INTERVAL, HeadSource, Told
from tests.support.faulty_store import FaultyStore
from tests.support.manual_clock import ManualClock
from tests.support.revisions import CLOCK, Commits, once

SERVICE = """
apiVersion: mesh/v1
kind: Service
metadata: {name: api}
spec: {protocol: http, port: PORT}
"""


class LateStore(FaultyStore):
    """A store whose watches tell each state of head that there was, one whenever a test says so."""

    def __init__(self, store: EmbeddedStore) -> None:
        super().__init__(store)
        self._queue: list[dict[str, Entry]] = []
        self._turns = asyncio.Semaphore(0)
        self.watches = self.scans = 0
        self.is_out = False

    async def commit(self, transaction: Transaction) -> None:
        await super().commit(transaction)
        if any(put.key == keyspace.HEAD for put in transaction.puts):
            self._queue.append(await self._store.scan(keyspace.HEAD))

    async def scan(self, prefix: str, *, keys_only: bool = False) -> dict[str, Entry]:
        self.scans += prefix == keyspace.HEAD
        if self.is_out:
            raise Unavailable("the store does not answer")
        return await super().scan(prefix, keys_only=keys_only)

    async def watch(self, prefix: str) -> AsyncIterator[Watched]:
        self.watches += 1
        self._queue.clear()
        self._turns = asyncio.Semaphore(0)
        if self.is_out:
            yield Watched({}, lost="the store does not answer")
            await self._turns.acquire()
        yield Watched(await self._store.scan(prefix))
        while True:
            await self._turns.acquire()
            yield Watched(self._queue.pop(0))

    def skip(self) -> None:
        """Tell the next state together with the one after it."""
        self._queue.pop(0)

    def tell(self) -> None:
        """Let the watch tell the next state."""
        self._turns.release()


class Following:
    """A source that runs on a late store, and who commits to it."""

    def __init__(self, commits: Commits) -> None:
        self.store = LateStore(commits.store)
        self.clock = ManualClock()
        self.source = HeadSource(self.store, self.clock)
        self._commits = commits
        self._ports = count(1)
        commits.store = self.store  # type: ignore[assignment]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self.source.run())
            await once(self.source.told, lambda told: told is not None)
            yield
            task.cancel()

    async def commit(self, times: int = 1) -> None:
        for _ in range(times):
            await self._commits(SERVICE.replace("PORT", str(next(self._ports))))

    async def until(self, number: int) -> None:
        """Wait until the source knows that revision."""
        await once(self.source.told, lambda told: told is not None and told.number == number)

    async def until_asking(self) -> None:
        """Be told the start of a series that is far behind what there is."""
        await self.commit(4 + BEHIND)
        for _ in range(2):
            self.store.tell()
        await self.until(4 + BEHIND)
        await self.clock.until_asleep()


async def test_commits_that_the_watch_keeps_up_with_are_never_asked_for(commits: Commits) -> None:
    following = Following(commits)
    async with following.running():
        for number in range(1, 12):
            await following.commit()
            following.store.tell()
            await following.until(number)
            following.clock.advance(timedelta(seconds=1))
    assert (following.store.watches, following.store.scans) == (1, 0)


async def test_a_fast_series_is_looked_at_and_goes_on_being_told_while_it_is_in_time(
    commits: Commits,
) -> None:
    following = Following(commits)
    async with following.running():
        for number in range(1, 9):
            await following.commit()
            following.store.tell()
            await following.until(number)
            following.clock.advance(INTERVAL)
        await following.commit()
        following.store.tell()
        await following.until(9)
    assert (following.store.watches, following.store.scans) == (1, 4)


async def test_commits_that_are_told_together_are_looked_at_however_seldom(
    commits: Commits,
) -> None:
    following = Following(commits)
    async with following.running():
        await following.commit()
        following.store.tell()
        await following.until(1)
        following.clock.advance(timedelta(seconds=1))
        await following.commit(2 + BEHIND)
        following.store.skip()
        following.store.tell()
        await following.until(3 + BEHIND)  # nobody told


async def test_a_watch_that_is_far_behind_is_left_for_the_newest(commits: Commits) -> None:
    following = Following(commits)
    async with following.running():
        await following.until_asking()
        assert following.store.watches == 1
        await following.commit(3)
        following.clock.advance(INTERVAL)
        await following.until(7 + BEHIND)  # nobody told


async def test_after_the_storm_the_watch_tells_again(commits: Commits) -> None:
    following = Following(commits)
    async with following.running():
        await following.until_asking()
        async with asyncio.timeout(10):
            while following.store.watches == 1:
                following.clock.advance(INTERVAL)
                await CLOCK.sleep(timedelta(milliseconds=1))
        asked = following.store.scans
        await following.commit()
        following.store.tell()
        await following.until(5 + BEHIND)
    assert following.store.scans == asked


async def test_an_outage_while_asking_is_told_and_healed_by_the_watch(commits: Commits) -> None:
    following = Following(commits)
    async with following.running():
        await following.until_asking()
        following.store.is_out = True
        following.clock.advance(INTERVAL)
        async with asyncio.timeout(10):
            while following.source.trouble is None:
                await CLOCK.sleep(timedelta(milliseconds=1))
        assert not following.source.is_in_touch
        assert following.source.number == 4 + BEHIND
        following.store.is_out = False
        await following.commit()
        following.store.tell()
        await following.until(5 + BEHIND)
        assert following.source.is_in_touch


async def test_a_head_that_cannot_be_read_is_no_revision(commits: Commits) -> None:
    following = Following(commits)
    async with following.running():
        await commits.store.commit(Transaction(puts=(Put(keyspace.HEAD, b"\xff"),)))
        following.store.tell()
        await once(following.source.told, lambda told: told == Told(b"\xff"))
        assert following.source.number == 0
