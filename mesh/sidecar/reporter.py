"""Saying how this sidecar is: its status, and under a lease that it lives.

The lease (`alive`) lasts 10 s and is renewed each 3 s; when it runs out, the status stays and
readers call the sidecar stale. `alive` holds a token of the sidecar's folder, so that two sidecars
with one id on two hosts are noticed: the second one reports nothing.

A change is told at once, a storm of them at the pace of the store: each report is a write to disk
of every member, and `head` reaches all agents at the same moment.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from mesh.errors import Conflict, LeaseLost, MeshError
from mesh.latest import Latest
from mesh.model.status import SidecarStatus
from mesh.planning import keyspace
from mesh.planning.status_codec import encode_status
from mesh.ports import Clock, LeaseId, Put, Store, Transaction
from mesh.sidecar.pace import Pace
from mesh.sidecar.retry import Backoff, Outage
from mesh.sidecar.waiting import set_within

LEASE = timedelta(seconds=10)
RENEWAL = timedelta(seconds=3)
# How old the status of a living sidecar may be: readers show it as "silent since".
_REFRESH = timedelta(seconds=30)
# Two commits in a row are each told at once; a storm of them ten times a second to a store that
# answers at once, and once a second to one that needs a twentieth of that or more.
_INTERVAL = timedelta(seconds=1)
_BURST = 2
_LEAST = 0.1
_STRAIN = 20
# How soon an Envoy usually says whether it takes what was compiled: one report tells both.
_ACKNOWLEDGEMENT = timedelta(milliseconds=100)


class Reporter:
    """Reports what `describe` says at a moment; `changed` asks for a report at once.

    `written` is what the store has; `holds`: whether the id is this sidecar's, None until the
    store has said.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        id: str,
        owner: str,
        describe: Callable[[datetime], SidecarStatus],
    ) -> None:
        self._store = store
        self._clock = clock
        self._id = id
        self._owner = owner.encode()
        self._describe = describe
        self._status_key = keyspace.sidecar(id, keyspace.STATUS)
        self._alive_key = keyspace.sidecar(id, keyspace.ALIVE)
        self._wake = asyncio.Event()
        self._pace = Pace(clock, _INTERVAL, _BURST)
        self._lease: LeaseId | None = None
        self._renewed = 0.0
        self.written: Latest[SidecarStatus | None] = Latest(None)
        self._outage = Outage("status reports")
        self._lock = asyncio.Lock()
        self._has_left = False
        self.holds: Latest[bool | None] = Latest(None)

    def changed(self) -> None:
        """There is something new to say."""
        self._wake.set()

    async def run(self) -> None:
        """Report until cancelled."""
        backoff = Backoff()
        while True:
            self._wake.clear()
            try:
                async with self._lock:
                    if not self._has_left:
                        await self._report()
            except MeshError as error:
                self._outage.failed(error.message, error.hint)
                if isinstance(error, LeaseLost):
                    self._lease = None
                await self._clock.sleep(min(backoff.next(), RENEWAL / 3))
            else:
                self._outage.recovered()
                backoff.reset()
                await self._news()

    async def withdraw(self) -> None:
        """Take the reports back: the sidecar ended on purpose.

        Raises:
            OutsideError: the store is out of reach; the lease will run out.
        """
        self._has_left = True
        async with self._lock:  # after a report that is under way
            if self._lease is not None:
                keys = (self._status_key, self._alive_key)
                await self._store.commit(Transaction(deletes=keys))
                self._lease = None

    async def _news(self) -> None:
        """Wait for something to tell, or for the lease to be due."""
        if not await set_within(self._wake, RENEWAL):
            return
        self._wake.clear()
        if _is_in_between(self._describe(self._clock.now())):
            await set_within(self._wake, _ACKNOWLEDGEMENT)
        await self._pace.turn()

    async def _report(self) -> None:
        now = self._clock.now()
        status = self._describe(now)
        if self._lease is None:
            await self._claim(status)
            return
        if self._clock.monotonic() - self._renewed >= RENEWAL.total_seconds():
            await self._store.lease(LEASE, self._lease)
            self._renewed = self._clock.monotonic()
        if not self._is_known(status):
            start = self._clock.monotonic()
            await self._store.commit(
                Transaction(puts=(Put(self._status_key, encode_status(status)),))
            )
            self.written.set(status)
            took = (self._clock.monotonic() - start) / _INTERVAL.total_seconds()
            self._pace.spend(min(1.0, max(_LEAST, _STRAIN * took)))

    def _is_known(self, status: SidecarStatus) -> bool:
        written = self.written.value
        if written is None or status.time - written.time > _REFRESH:
            return False
        return replace(status, time=written.time) == written

    async def _claim(self, status: SidecarStatus) -> None:
        known = (await self._store.fetch([self._alive_key])).get(self._alive_key)
        if known is not None and known.value != self._owner:
            self.holds.set(False)
            raise rival(self._id)
        lease = await self._store.lease(LEASE)
        await self._store.commit(
            Transaction(
                expect={self._alive_key: known.version if known else 0},
                puts=(
                    Put(self._status_key, encode_status(status)),
                    Put(self._alive_key, self._owner, lease),
                ),
            )
        )
        self._lease, self._renewed = lease, self._clock.monotonic()
        self.written.set(status)
        self.holds.set(True)


def rival(id: str) -> Conflict:
    """The error of the second of two sidecars with one id."""
    return Conflict(
        f'a sidecar with the id "{id}" reports from another host',
        hint="give each sidecar an --id of its own",
    )


def _is_in_between(status: SidecarStatus) -> bool:
    """Whether Envoy has yet to say something to what was compiled last."""
    return status.seen > status.revision and not status.rejections
