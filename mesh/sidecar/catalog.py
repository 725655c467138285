"""Following Discovery: the instances of what the policies name, as one catalog.

A grown interest opens a watch for what is new beside those that run, so that a change of scope
neither repeats queries nor leaves a moment without endpoints.
"""

import asyncio
from dataclasses import dataclass, field

from mesh.latest import Latest
from mesh.model.catalog import Catalog, Endpoint
from mesh.model.identity import ServiceName
from mesh.ports import Clock, Discovery, Interest
from mesh.sidecar.retry import Outage, forever
from mesh.sidecar.waiting import closing


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

    def __init__(self, discovery: Discovery, clock: Clock) -> None:
        self._discovery = discovery
        self._clock = clock
        self._remembered = Catalog()
        self._watches: list[_Watch] = []
        self._outage = Outage("discovery")
        self._wake = asyncio.Event()
        self.interest: Latest[Interest | None] = Latest(None)
        self.newest: Latest[Catalog] = Latest(self._remembered)

    def covers(self, interest: Interest) -> bool:
        """Whether all that `interest` names has been answered for."""
        known = self.newest.value
        named = bool(known.names) or any(w.interest.names and w.answer for w in self._watches)
        return interest.services <= known.endpoints.keys() and (named or not interest.names)

    def recall(self, catalog: Catalog) -> None:
        """Take what was remembered, for what discovery has not answered for yet."""
        self._remembered = catalog
        interest = self.interest.value
        if interest is None:
            self.newest.set(catalog)
        else:
            self._publish(interest)

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._wake_on_interest())
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
        endpoints: dict[ServiceName, tuple[Endpoint, ...]] = {}
        names = self._remembered.names
        for watch in self._watches:
            source = watch.answer or self._remembered
            endpoints.update(
                (service, source.endpoints.get(service, ()))
                for service in watch.interest.services
                if watch.answer or service in source.endpoints
            )
            if watch.interest.names and watch.answer:
                names = watch.answer.names
        stale = next((watch.stale for watch in self._watches if watch.stale), None)
        if stale is None:
            self._outage.recovered()
        else:
            self._outage.failed(stale)
        self.newest.set(Catalog(endpoints, names if interest.names else frozenset(), stale))
