"""One sync works on a source at a time: who holds its key in the store, under a lease."""

import asyncio
import uuid
from contextlib import suppress
from datetime import timedelta

from mesh.errors import Conflict, LeaseLost, MeshError, OutcomeUnknown
from mesh.operations.sources import write_leader
from mesh.planning import keyspace
from mesh.ports import Clock, LeaseId, Put, Store, Transaction

TTL = timedelta(seconds=15)
RENEWAL = TTL / 3
_RELEASE_SECONDS = 2.0


class Leadership:
    """Takes, keeps and gives back the lead over `source` as `name`."""

    def __init__(self, store: Store, clock: Clock, source: str, name: str) -> None:
        self._store = store
        self._clock = clock
        self._key = keyspace.sync(source, keyspace.LEADER)
        # Unlike the name this is nobody else's: it tells whether a commit in doubt was ours.
        self._value = write_leader(name, uuid.uuid4().hex)
        self._lease: LeaseId | None = None
        self._renewed = 0.0
        self._version = 0

    @property
    def fence(self) -> dict[str, int]:
        """What holds in the store exactly as long as nobody else leads."""
        return {self._key: self._version}

    async def acquire(self) -> bool:
        """Take the lead if nobody has it; whether we lead."""
        self._renewed = self._clock.monotonic()
        self._lease = await self._store.lease(TTL)
        with suppress(Conflict, OutcomeUnknown):
            put = Put(self._key, self._value, self._lease)
            await self._store.commit(Transaction(expect={self._key: 0}, puts=(put,)))
        entry = (await self._store.fetch([self._key])).get(self._key)
        if entry is None or entry.value != self._value:
            return False
        self._version = entry.version
        return True

    async def keep(self) -> None:
        """Renew the lease until cancelled.

        Raises:
            LeaseLost: it ran out, or could not be renewed for its whole length.
        """
        while True:
            await self._clock.sleep(RENEWAL)
            started = self._clock.monotonic()
            try:
                await self._store.lease(TTL, self._lease)
                self._renewed = started
            except LeaseLost:
                raise
            except MeshError as error:
                if self._clock.monotonic() - self._renewed > TTL.total_seconds():
                    raise LeaseLost(f"the lead could not be renewed: {error.message}") from error

    async def release(self) -> None:
        """Give the lead back at once, if the store answers; by time otherwise."""
        with suppress(MeshError, TimeoutError):
            async with asyncio.timeout(_RELEASE_SECONDS):
                gone = Transaction(expect=self.fence, deletes=(self._key,))
                await self._store.commit(gone)
