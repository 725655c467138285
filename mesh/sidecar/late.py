"""Store and Discovery from the first moment on, reachable or not.

A sidecar starts without waiting for servers. Until the real one could be entered, these answer
as a server does that cannot be reached, so that "not yet" is an outage like any other.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AsyncExitStack
from datetime import timedelta
from types import TracebackType
from typing import Generic, Self, TypeVar

from mesh.errors import Unavailable
from mesh.model.catalog import Catalog, Endpoint
from mesh.ports import (
    Clock,
    Discovery,
    Entry,
    Interest,
    LeaseId,
    Store,
    Transaction,
    Watched,
)
from mesh.sidecar.retry import Outage, until_done
from mesh.sidecar.waiting import closing, set_within

# Servers that are there are entered within this.
MOMENT = timedelta(seconds=1)

T = TypeVar("T", bound=Store | Discovery)


class _Late(Generic[T]):
    """Enters what `make` makes (anew for each try), and holds it."""

    def __init__(self, make: Callable[[], T], clock: Clock, what: str, moment: timedelta) -> None:
        self._make = make
        self._clock = clock
        self._what = what
        self._moment = moment
        self._outage = Outage(what)
        self._real: T | None = None
        self._entered = asyncio.Event()

    async def hold(self) -> None:
        """Enter as soon as that is possible; leave when cancelled."""
        async with AsyncExitStack() as stack:
            real = await until_done(self._clock, self._outage, lambda: self._enter(stack))
            self._real = real
            self._entered.set()
            try:
                await asyncio.Event().wait()
            finally:
                self._real = None

    async def _enter(self, stack: AsyncExitStack) -> T:
        made = self._make()
        await made.__aenter__()
        stack.push_async_exit(made.__aexit__)
        return made

    async def entered(self) -> None:
        """Return once the real one is there."""
        await self._entered.wait()

    @property
    def trouble(self) -> str | None:
        """Why it could not be entered yet, where that was tried."""
        return self._outage.reason

    @property
    def _reason(self) -> str:
        return self._outage.reason or f"the {self._what} has not been reached yet"

    def _reached(self) -> T:
        if self._real is None:
            raise Unavailable(self._reason)
        return self._real


class LateStore(_Late[Store]):
    """A `Store` whose `hold` enters the real one; it need not be entered itself.

    What is entered within `moment` was never out of reach for a watch.
    """

    def __init__(self, make: Callable[[], Store], clock: Clock, moment: timedelta = MOMENT) -> None:
        super().__init__(make, clock, "store", moment)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None

    async def fetch(self, keys: Collection[str]) -> dict[str, Entry]:
        """As `Store.fetch`."""
        return await self._reached().fetch(keys)

    async def scan(self, prefix: str, *, keys_only: bool = False) -> dict[str, Entry]:
        """As `Store.scan`."""
        return await self._reached().scan(prefix, keys_only=keys_only)

    async def commit(self, transaction: Transaction) -> None:
        """As `Store.commit`."""
        await self._reached().commit(transaction)

    async def watch(self, prefix: str) -> AsyncIterator[Watched]:
        """As `Store.watch`."""
        if not await set_within(self._entered, self._moment):
            yield Watched({}, self._reason)
            await self._entered.wait()
        async with closing(self._reached().watch(prefix)) as states:
            async for state in states:
                yield state

    async def lease(self, ttl: timedelta, renew: LeaseId | None = None) -> LeaseId:
        """As `Store.lease`."""
        return await self._reached().lease(ttl, renew)


class LateDiscovery(_Late[Discovery]):
    """A `Discovery` whose `hold` enters the real one; it need not be entered itself.

    What is entered within `moment` was never out of reach for a watch.
    """

    def __init__(
        self, make: Callable[[], Discovery], clock: Clock, moment: timedelta = MOMENT
    ) -> None:
        super().__init__(make, clock, "discovery", moment)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None

    async def register(self, endpoint: Endpoint, *, ttl: timedelta) -> None:
        """As `Discovery.register`."""
        await self._reached().register(endpoint, ttl=ttl)

    async def deregister(self, endpoint: Endpoint) -> None:
        """As `Discovery.deregister`."""
        await self._reached().deregister(endpoint)

    async def watch(self, interest: Interest) -> AsyncIterator[Catalog]:
        """As `Discovery.watch`."""
        if not await set_within(self._entered, self._moment):
            yield Catalog(stale=self._reason)
            await self._entered.wait()
        async with closing(self._reached().watch(interest)) as catalogs:
            async for catalog in catalogs:
                yield catalog
