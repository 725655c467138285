"""`mesh sync` as a service: elected, looking, woken by news, until it is cancelled."""

import asyncio
import random
from contextlib import suppress
from datetime import timedelta

import structlog

from mesh.errors import MeshError
from mesh.latest import Latest
from mesh.model.source import SourceStatus, SyncState
from mesh.operations.acceptance import wait
from mesh.operations.concurrency import closing, first_leaf
from mesh.operations.sources import leader_name, read_source
from mesh.planning import keyspace
from mesh.ports import Entry, Put, Store, Transaction, Watched
from mesh.sync import reports
from mesh.sync.counters import Counters
from mesh.sync.follower import Follower, Looked
from mesh.sync.leadership import Leadership
from mesh.sync.options import SyncOptions, SyncPorts
from mesh.sync.reports import write_report

FIRST_PAUSE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(minutes=1)
_SETTLING = timedelta(milliseconds=200)

_log = structlog.get_logger(__name__)


class SyncService:
    """Follows one source for as long as `run` runs. `counters` are for whoever shows figures;
    `is_started` is set once the store is there: it leads, or stands by.
    """

    def __init__(self, options: SyncOptions, ports: SyncPorts) -> None:
        self._options = options
        self._ports = ports
        self._wake = asyncio.Event()
        self._seen: Latest[Watched | None] = Latest(None)
        self._store: Store | None = None
        self._told: SourceStatus | None = None
        self._failed = 0
        self.counters = Counters()
        self.is_started = asyncio.Event()

    async def run(self) -> None:
        """Work until cancelled; then the lead is given back.

        Raises:
            OutsideError: the store was out of reach at the start.
        """
        async with self._ports.store() as store:
            self._store = store
            self.is_started.set()
            if self._wake.is_set():  # called before there was a store
                await self._pass_on(store)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watch(store))
                while True:
                    await self._once_elected(store)

    async def wake(self) -> None:
        """Look at once: somebody says that there is a new commit. Who does not lead passes it on.

        Raises:
            MeshError: the store did not take the message.
        """
        self.counters.webhooks += 1
        self._wake.set()
        if not self.counters.is_leading and self._store is not None:
            await self._pass_on(self._store)

    async def _pass_on(self, store: Store) -> None:
        key = keyspace.sync(self._options.source, keyspace.NUDGE)
        await store.commit(Transaction(puts=(Put(key, b""),)))

    async def _watch(self, store: Store) -> None:
        nudge: int | None = None
        async with closing(store.watch(keyspace.sync(self._options.source, ""))) as states:
            async for watched in states:
                if watched.lost is not None:
                    continue
                self._seen.set(watched)
                version = self._version(watched)
                if nudge is not None and version != nudge:
                    self._wake.set()
                nudge = version

    def _version(self, watched: Watched) -> int:
        entry = watched.entries.get(keyspace.sync(self._options.source, keyspace.NUDGE))
        return entry.version if entry else 0

    async def _once_elected(self, store: Store) -> None:
        """Wait for the lead, then work until it is lost."""
        await self._until_free()
        leadership = Leadership(store, self._ports.clock, self._options.source, self._options.name)
        try:
            if await leadership.acquire():
                await self._lead(store, leadership)
            else:  # somebody was faster; the watch will say so in a moment
                await self._ports.clock.sleep(_SETTLING)
        except MeshError as error:
            _log.warning("the source is not synced, trying again", reason=error.message)
        else:
            return
        await self._pause(failed=True)

    async def _until_free(self) -> None:
        key = keyspace.sync(self._options.source, keyspace.LEADER)
        told: bytes | None = None
        async for watched in self._seen.changes():
            entry: Entry | None = watched.entries.get(key) if watched else None
            if watched is not None and entry is None:
                return
            if entry is not None and entry.value != told:
                told = entry.value
                _log.info("standing by", source=self._options.source, leader=leader_name(told))

    async def _lead(self, store: Store, leadership: Leadership) -> None:
        """Look again and again.

        Raises:
            MeshError: the lead or the store was lost, or the cache is taken.
        """
        self.counters.is_leading = True
        _log.info("leading", source=self._options.source)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(leadership.keep())
                async with self._ports.repository() as repository:
                    follower = Follower(self._options, store, self._ports.clock, repository)
                    follower.fence = leadership.fence
                    await self._look_on(store, follower)
        except BaseExceptionGroup as errors:
            raise first_leaf(errors) from None
        finally:
            self.counters.is_leading = False
            await leadership.release()

    async def _look_on(self, store: Store, follower: Follower) -> None:
        async with asyncio.TaskGroup() as tasks:
            waiting: asyncio.Task[None] | None = None
            while True:
                self._wake.clear()
                looked = await follower.look()
                await self._tell(store, looked.status)
                if looked.concerned:
                    if waiting is not None:
                        waiting.cancel()
                    waiting = tasks.create_task(self._follow_sidecars(store, looked))
                await self._pause(failed=looked.status.state is SyncState.UNREACHABLE)

    async def _follow_sidecars(self, store: Store, looked: Looked) -> None:
        """Say so if a sidecar refuses what was applied."""
        ids, number = looked.concerned, looked.status.revision
        with suppress(MeshError):
            found = await wait(store, ids, number, self._options.patience, lambda _: None)
            last = await read_source(store, self._options.source)
            if found.rejected and last is not None and last.revision == number:
                await self._tell(store, reports.rejected(last, found, self._ports.clock.now()))

    async def _tell(self, store: Store, status: SourceStatus) -> None:
        """Write every report; tell those that say something new."""
        await write_report(store, status)
        self.counters.note(status, self._ports.clock.now())
        if self._told is None or reports.says_new(status, self._told):
            self._ports.tell(status)
        self._told = status

    async def _pause(self, *, failed: bool) -> None:
        """Until the next look is due or somebody wakes us; longer from failure to failure."""
        pause = self._options.interval
        if failed:
            longest = max(pause, LONGEST_PAUSE)
            pause = min(FIRST_PAUSE * 2.0 ** min(self._failed, 16), longest)
            pause *= random.uniform(0.5, 1)  # noqa: S311 (spreads load, guards nothing)
        self._failed = self._failed + 1 if failed else 0
        with suppress(TimeoutError):
            async with asyncio.timeout(pause.total_seconds()):
                await self._wake.wait()
