"""Following Discovery: the instances of what the policies name, as one catalog.

A grown interest opens a watch for what is new beside those that run, so that a change of scope
neither repeats queries nor leaves a moment without endpoints.

What an earlier start remembered fills in where discovery does not answer, and is held for a while
against first answers that are empty: a catalog that was lost meanwhile looks like that.
"""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Generic, TypeVar

from mesh.latest import Latest
from mesh.model.catalog import Catalog, Endpoint
from mesh.model.identity import ServiceName
from mesh.planning.presence import EMPTY_GRACE_SECONDS, vanished
from mesh.ports import Clock, Discovery, Interest
from mesh.sidecar.retry import Outage, forever
from mesh.sidecar.waiting import closing

# How often what is doubted is looked at again.
_TICK = timedelta(seconds=5)

T = TypeVar("T", bound=Collection[object])


@dataclass(slots=True)
class _Held(Generic[T]):
    """What was remembered of something, until an answer about it is believed."""

    remembered: T
    emptied_at: float | None = None
    is_over: bool = False

    @property
    def is_doubting(self) -> bool:
        """Whether it is held against an empty answer."""
        return self.emptied_at is not None and not self.is_over

    def against(self, found: T, now: float) -> T:
        """What to believe of an answer."""
        if self.emptied_at is None:
            self.emptied_at = now
        self.is_over |= bool(found) or now - self.emptied_at >= EMPTY_GRACE_SECONDS
        return found if self.is_over else self.remembered


@dataclass(slots=True, eq=False)
class _Watch:
    """One running watch and the newest that it said; None: nothing of use yet."""

    interest: Interest
    answer: Catalog | None = None
    stale: str | None = None
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class CatalogSource:
    """The catalog for `interest` (set it), in `newest` (read it).

    A service that has a key in `newest.endpoints` has been answered for, if only from what was
    remembered.
    """

    def __init__(
        self, discovery: Discovery, clock: Clock, remembered: Catalog | None = None
    ) -> None:
        self._discovery = discovery
        self._clock = clock
        self._remembered = remembered or Catalog()
        self._is_recalled = False
        self._held = {
            service: _Held(known) for service, known in self._remembered.endpoints.items() if known
        }
        names = self._remembered.names
        self._held_names = _Held(names, is_over=not names)
        self._watches: list[_Watch] = []
        self._outage = Outage("discovery")
        self._wake = asyncio.Event()
        self._doubts = asyncio.Event()
        self.interest: Latest[Interest | None] = Latest(None)
        self.newest: Latest[Catalog] = Latest(Catalog())

    def covers(self, interest: Interest) -> bool:
        """Whether all that `interest` names has been answered for."""
        known = self.newest.value
        named = bool(known.names) or any(w.interest.names and w.answer for w in self._watches)
        return interest.services <= known.endpoints.keys() and (named or not interest.names)

    def recall(self) -> None:
        """Let what was remembered stand for what discovery has not answered for yet."""
        self._is_recalled = True
        interest = self.interest.value
        if interest is None:
            self.newest.set(self._remembered)
        else:
            self._publish(interest)

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._wake_on_interest())
            tasks.create_task(self._wake_on_doubts())
            while True:
                await self._wake.wait()
                self._wake.clear()
                interest = self.interest.value
                if interest is not None:
                    self._regroup(tasks, interest)
                    self._publish(interest)

    async def _wake_on_interest(self) -> None:
        async for _ in self.interest.changes():
            self._wake.set()

    async def _wake_on_doubts(self) -> None:
        while True:
            await self._doubts.wait()
            await self._clock.sleep(_TICK)
            self._wake.set()

    def _regroup(self, tasks: asyncio.TaskGroup, interest: Interest) -> None:
        wanted = interest.services
        kept: list[_Watch] = []
        for watch in self._watches:
            if watch.interest.services & wanted or (watch.interest.names and interest.names):
                kept.append(watch)
            elif watch.task is not None:
                watch.task.cancel()
        self._watches = kept
        watched = {service for watch in kept for service in watch.interest.services}
        if added := wanted - watched:
            self._open(tasks, Interest(added))
        if interest.names and not any(watch.interest.names for watch in kept):
            self._open(tasks, Interest(names=True))

    def _open(self, tasks: asyncio.TaskGroup, interest: Interest) -> None:
        watch = _Watch(interest)
        self._watches.append(watch)
        watch.task = tasks.create_task(
            forever(self._clock, "follow catalog", lambda: self._follow(watch))
        )

    async def _follow(self, watch: _Watch) -> None:
        async with closing(self._discovery.watch(watch.interest)) as catalogs:
            async for catalog in catalogs:
                watch.stale = catalog.stale
                # What a source says before it was ever reached is no news: the remembered holds.
                if catalog.stale is None or watch.answer is not None:
                    watch.answer = catalog
                self._wake.set()

    def _publish(self, interest: Interest) -> None:
        now = self._clock.monotonic()
        recalled = self._remembered if self._is_recalled else Catalog()
        endpoints: dict[ServiceName, tuple[Endpoint, ...]] = {}
        names = recalled.names
        for watch in self._watches:
            for service in watch.interest.services:
                if watch.answer is not None:
                    found = watch.answer.endpoints.get(service, ())
                    held = self._held.get(service)
                    endpoints[service] = held.against(found, now) if held else found
                elif service in recalled.endpoints:
                    endpoints[service] = recalled.endpoints[service]
            if watch.interest.names and watch.answer:
                names = self._held_names.against(watch.answer.names, now)
        stale = next((watch.stale for watch in self._watches if watch.stale), None)
        doubts = [s for s in endpoints if s in self._held and self._held[s].is_doubting]
        if doubts or (interest.names and self._held_names.is_doubting):
            self._doubts.set()
            stale = stale or vanished(min(doubts, default=None))
        else:
            self._doubts.clear()
        if stale is None:
            self._outage.recovered()
        else:
            self._outage.failed(stale)
        self.newest.set(Catalog(endpoints, names if interest.names else frozenset(), stale))
