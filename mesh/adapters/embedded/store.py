"""The `Store` of one host: the database on two threads, watches woken by the bell."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar

from mesh.adapters.embedded.bell import Bell, folder_of
from mesh.adapters.embedded.database import Database, Stamp
from mesh.adapters.embedded.faults import Busy
from mesh.errors import OutcomeUnknown, OutsideError, Unavailable
from mesh.latest import Latest
from mesh.ports import Clock, Entry, LeaseId, Transaction, Watched

P = ParamSpec("P")
R = TypeVar("R")

# Twice what SQLite waits for a lock: past it the disk hangs.
DEADLINE_SECONDS = 10.0
# How often watchers look without being called: for commits whose process died before it rang,
# and for leases that ran out.
TICK_SECONDS = 1.0
OPENING_TRIES = 100
OPENING_PAUSE = timedelta(milliseconds=50)


class _Worker:
    """A database connection and the one thread that uses it."""

    def __init__(self, path: Path, clock: Clock, name: str) -> None:
        self._database = Database(path, clock)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"mesh-store-{name}")

    async def run(
        self,
        method: Callable[Concatenate[Database, P], R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Call a `Database` method in the thread; TimeoutError past the deadline."""

        def call() -> R:
            return method(self._database, *args, **kwargs)

        async with asyncio.timeout(DEADLINE_SECONDS):
            return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def close(self) -> None:
        """Disconnect after what is under way, and end the thread; a disk that hangs may keep it."""
        try:
            with suppress(TimeoutError, OutsideError):
                await self.run(Database.close)
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)


def _commit(database: Database, transaction: Transaction, bell: Bell) -> None:
    # In the thread, so that a caller who is cancelled meanwhile cannot leave out the bell.
    if database.commit(transaction):
        bell.ring()


def _expire(database: Database, bell: Bell) -> None:
    if database.expire():
        bell.ring()


class EmbeddedStore:
    """`Store` in the SQLite file at `path`, for any number of processes of one host.

    The file and the folders that lack are made on entering, 0600 and 0700. A commit is on the
    disk when it returns. Watchers everywhere hear of it within a millisecond by datagram, else
    within a second. Leases run by the wall clock. One process may open the same file any
    number of times. A network file system is no place for it (sqlite.org/wal.html).

    End a watch that is left early with `contextlib.aclosing`; leaving the store ends them all.
    """

    def __init__(self, path: Path, *, clock: Clock) -> None:
        self._path = Path(path).resolve()
        self._clock = clock
        self._bell = Bell(folder_of(self._path))
        self._reader = _Worker(self._path, clock, "reader")
        self._writer = _Worker(self._path, clock, "writer")
        self._wake = Latest(0)
        self._is_closed = False
        self._sentinel = Database(self._path, clock, busy_seconds=0)
        self._seen: Stamp | None = None
        self._soonest_us: int | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._close()

    async def fetch(self, keys: Collection[str]) -> dict[str, Entry]:
        """As `Store.fetch`."""
        return await self._read(Database.fetch, keys)

    async def scan(self, prefix: str, *, keys_only: bool = False) -> dict[str, Entry]:
        """As `Store.scan`."""
        return await self._read(Database.scan, prefix, keys_only=keys_only)

    async def commit(self, transaction: Transaction) -> None:
        """As `Store.commit`."""
        transaction.check()
        await self._write(_commit, transaction, self._bell)

    async def lease(self, ttl: timedelta, renew: LeaseId | None = None) -> LeaseId:
        """As `Store.lease`."""
        if renew is None:
            return await self._write(Database.grant, ttl)
        await self._write(Database.renew, renew, ttl)
        return renew

    async def watch(self, prefix: str) -> AsyncGenerator[Watched, None]:
        """As `Store.watch`."""
        self._listen()
        stamp: Stamp | None = None
        shown: Watched | None = None
        while not self._is_closed:
            called = self._wake.version
            lost: str | None = None
            entries = shown.entries if shown else {}
            try:
                await self._expire()
                news = await self._read(Database.news, prefix, stamp)
            except OutsideError as error:
                lost, self._seen = error.message, None  # the next tick calls again
            else:
                stamp, self._soonest_us = news.stamp, news.soonest_us
                entries = entries if news.entries is None else news.entries
            now = Watched(entries, lost)
            is_still_lost = lost is not None and shown is not None and shown.lost is not None
            if now != shown and not is_still_lost:
                shown = now
                yield now
            await self._wake.after(called)

    def _listen(self) -> None:
        if self._timer is None and not self._is_closed:
            self._bell.listen(self._call)
            self._tick()

    def _call(self) -> None:
        self._wake.set(self._wake.value + 1)

    def _tick(self) -> None:
        """Look for news that no bell told of; one look serves all watches of this store.

        A plain timer and no thread: at rest this is all that a watching process does.
        """
        try:
            seen: Stamp | None = self._sentinel.data_version()
        except OutsideError:
            seen = None
        if seen is None or seen != self._seen or self._sentinel.is_due(self._soonest_us):
            self._call()
        self._seen = seen
        self._timer = asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)

    async def _expire(self) -> None:
        if self._sentinel.is_due(self._soonest_us):
            self._soonest_us = None
            await self._write(_expire, self._bell)

    async def _open(self) -> None:
        # SQLite does not wait for a lock while it turns a new file to WAL: others that open it
        # for the first time in the same moment make it busy.
        for tries_left in reversed(range(OPENING_TRIES)):
            try:
                await self._writer.run(Database.open, create=True)
                break
            except Busy:
                if not tries_left:
                    raise
                await self._clock.sleep(OPENING_PAUSE)
            except TimeoutError as error:
                raise self._hangs() from error
        await self._read(Database.open, create=False)
        await self._read(lambda _: self._sentinel.open(create=False))

    async def _close(self) -> None:
        self._is_closed = True
        self._call()
        self._bell.close()
        if self._timer is not None:
            self._timer.cancel()
        self._sentinel.close()
        await self._reader.close()
        await self._writer.close()

    async def _read(
        self, method: Callable[Concatenate[Database, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        try:
            return await self._reader.run(method, *args, **kwargs)
        except TimeoutError as error:
            raise self._hangs() from error

    async def _write(
        self, method: Callable[Concatenate[Database, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        try:
            return await self._writer.run(method, *args, **kwargs)
        except TimeoutError as error:
            hangs = self._hangs()
            raise OutcomeUnknown(hangs.message, hint=hangs.hint) from error

    def _hangs(self) -> Unavailable:
        return Unavailable(
            f'the store "{self._path}" gave no answer in {DEADLINE_SECONDS:.0f} s',
            hint="its disk hangs, or the machine is overloaded",
        )
