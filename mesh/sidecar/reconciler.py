"""The newest policies, catalog and certificate -> the next snapshot: compiled once, published.

The first change is compiled at once, further ones at least 100 ms apart: however fast the inputs
change, the newest wins and nothing queues.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import TypeVar

import structlog

from mesh.compiler.assemble import Assembler
from mesh.compiler.scope import Reach
from mesh.errors import MeshError
from mesh.latest import Latest
from mesh.model.catalog import Catalog
from mesh.model.identity import SVID, ServiceName, TrustBundle
from mesh.model.placement import Placement
from mesh.model.policy import Address
from mesh.model.revision import Policies
from mesh.ports import Clock, ConfigurationServer, Interest
from mesh.sidecar.catalog import CatalogSource
from mesh.sidecar.head import INTERVAL
from mesh.sidecar.policies import Scope
from mesh.sidecar.waiting import newer_within

# How long a compilation waits for what is on its way: endpoints of a service that came into
# scope, the first certificate. Publishing without them would answer 503 for the moment between.
PATIENCE = timedelta(seconds=1)

T = TypeVar("T")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The cells that a snapshot is made of, each with its one writer elsewhere."""

    scope: Latest[Scope | None]
    catalog: CatalogSource
    svid: Latest[SVID | None]
    bundle: Latest[TrustBundle | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """What was published last. `generation` is the configuration server's, 0 before the first;
    `has_identity`: with a certificate. `failure` is why something newer could not be compiled.
    """

    generation: int = 0
    revision: int = 0
    has_identity: bool = False
    upstreams: Mapping[ServiceName, Address] = field(default_factory=dict)
    failure: str | None = None


class Reconciler:
    """Keeps `server` at the newest of `inputs` for the sidecar at `placement`.

    `upstreams` gives a loopback address for each of the named TCP services; it may block.
    """

    def __init__(
        self,
        inputs: Inputs,
        server: ConfigurationServer,
        clock: Clock,
        placement: Placement,
        upstreams: Callable[[tuple[ServiceName, ...]], Mapping[ServiceName, Address]],
    ) -> None:
        self._inputs = inputs
        self._server = server
        self._assembler = Assembler()
        self._reached: tuple[Policies, frozenset[ServiceName], Reach] | None = None
        self._clock = clock
        self._placement = placement
        self._upstreams = upstreams
        self._wake = asyncio.Event()
        self._waited_for: Interest | None = None
        self._waited_for_identity = False
        self.compiled: Latest[Compiled] = Latest(Compiled())

    async def run(self) -> None:
        """Reconcile until cancelled."""
        inputs = self._inputs
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._wake_on(inputs.scope.changes()))
            tasks.create_task(self._wake_on(inputs.catalog.newest.changes()))
            tasks.create_task(self._wake_on(inputs.svid.changes()))
            tasks.create_task(self._wake_on(inputs.bundle.changes()))
            while True:
                await self._wake.wait()
                self._wake.clear()
                if inputs.scope.value is not None:
                    await self._reconcile()
                    await self._clock.sleep(INTERVAL)

    async def _wake_on(self, changes: AsyncIterator[T]) -> None:
        async for _ in changes:
            self._wake.set()

    async def _reconcile(self) -> None:
        try:
            await self._gather()
            known, catalog = self._inputs.scope.value or Scope(), self._inputs.catalog.newest.value
            reach = self._reach(known, catalog)
            self._publish(known, catalog, reach, await self._addresses(reach.tcp_upstreams))
        except MeshError as error:
            self._failed(error.message)
        except Exception as error:  # noqa: BLE001 - a defect of the compiler keeps the last good state
            _log.exception("cannot compile, serving on with the last snapshot")
            self._failed(f"{type(error).__name__}: {error}")

    def _reach(self, known: Scope, catalog: Catalog) -> Reach:
        """What the service can name: the same as last time while nothing in scope changed."""
        if self._reached is None or self._reached[:2] != (known.policies, catalog.names):
            reach = Reach(known.policies, self._placement.service, catalog.names)
            self._reached = (known.policies, catalog.names, reach)
        return self._reached[2]

    async def _gather(self) -> None:
        """Say what instances are wanted, and wait a moment for what is on its way.

        Names that arrive meanwhile may be of services whose instances are wanted too.
        """
        catalog = self._inputs.catalog
        known = self._inputs.scope.value or Scope()
        while (interest := self._interest(known)) != self._waited_for:
            self._waited_for = interest
            catalog.interest.set(interest)
            await self._until(partial(catalog.covers, interest), catalog.newest)
        if known.head is not None and not self._waited_for_identity:
            self._waited_for_identity = True
            await self._until(lambda: self._inputs.svid.value is not None, self._inputs.svid)
            await self._until(lambda: self._inputs.bundle.value is not None, self._inputs.bundle)

    def _interest(self, known: Scope) -> Interest:
        wanted = self._reach(known, self._inputs.catalog.newest.value).interest
        return Interest(wanted.services, names=wanted.names)

    async def _until(self, holds: Callable[[], bool], cell: Latest[T]) -> None:
        give_up = self._clock.monotonic() + PATIENCE.total_seconds()
        while not holds():
            version = cell.version
            left = timedelta(seconds=give_up - self._clock.monotonic())
            if not await newer_within(cell, version, left):
                return

    async def _addresses(self, services: tuple[ServiceName, ...]) -> Mapping[ServiceName, Address]:
        known = self.compiled.value.upstreams
        if known.keys() == set(services):
            return known
        return await asyncio.to_thread(self._upstreams, services)

    def _publish(
        self,
        known: Scope,
        catalog: Catalog,
        reach: Reach,
        upstreams: Mapping[ServiceName, Address],
    ) -> None:
        svid, bundle = self._inputs.svid.value, self._inputs.bundle.value
        if self._placement.upstreams != upstreams:
            self._placement = replace(self._placement, upstreams=upstreams)
        view = reach.view(
            revision=known.revision,
            catalog=catalog,
            placement=self._placement,
            svid=svid,
            bundle=bundle,
        )
        generation = self._server.publish(self._assembler.compile(view))
        self.compiled.set(
            Compiled(
                generation=generation,
                revision=known.revision,
                has_identity=svid is not None and bundle is not None,
                upstreams=upstreams,
            )
        )
        _log.debug("published", revision=known.revision, generation=generation)

    def _failed(self, reason: str) -> None:
        _log.error("cannot compile a snapshot, serving on with the last one", reason=reason)
        self.compiled.set(replace(self.compiled.value, failure=reason))
