"""The agent beside one Envoy: all of its tasks in one group, its start and its end.

    reach            store and discovery, entered as soon as they answer
    follow_head      policies in scope as head moves
    follow_catalog   instances of what they name
    follow_trust     the trust bundle, published and watched
    keep_certificate asked for, renewed
    reconcile        any of these changed -> snapshot -> Envoy
    serve_ads        delta xDS on a Unix socket
    supervise_envoy  adopt or start, restart
    register         the instance, healthy while Envoy and the application are
    report           status under a lease
    remember         the last good state on disk
    telemetry        what Prometheus scrapes, where it shall

Nothing at the start waits for a server when something is remembered. At the end the instance
leaves discovery first, so that its callers have turned away when Envoy drains.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import TypeVar

import structlog

from mesh.errors import MeshError, Unavailable
from mesh.latest import Latest
from mesh.model.catalog import Endpoint
from mesh.model.status import SidecarStatus
from mesh.ports import Acknowledged
from mesh.sidecar import place as places
from mesh.sidecar.addresses import advertised
from mesh.sidecar.arrival import Arrival
from mesh.sidecar.catalog import CatalogSource
from mesh.sidecar.certificates import CertificateKeeper, MeshIssuer
from mesh.sidecar.late import LateDiscovery, LateStore
from mesh.sidecar.options import SidecarOptions
from mesh.sidecar.pace import Pace, Rarely
from mesh.sidecar.place import Place
from mesh.sidecar.policies import PolicySource
from mesh.sidecar.ports import Ready, SidecarPorts
from mesh.sidecar.reconciler import Inputs, Reconciler
from mesh.sidecar.registration import Registration
from mesh.sidecar.remembered import Remembered
from mesh.sidecar.reporter import Reporter
from mesh.sidecar.retry import Backoff, forever
from mesh.sidecar.standing import Standing
from mesh.sidecar.telemetry import Observed, Telemetry
from mesh.sidecar.trust import TrustSource
from mesh.sidecar.waiting import newer_within, set_within

# From a deregistration to the moment when callers' Envoys have it: a watch, at most one interval
# of reconciling, a push.
_PROPAGATION = timedelta(milliseconds=300)
# An adopted Envoy serves already: what the store says now is better than what was remembered.
_ADOPTION_PATIENCE = timedelta(seconds=1)
# A store that is there answers in milliseconds; one that is not must not hold up a cold start.
_START_PATIENCE = timedelta(milliseconds=300)
# Off the way to Envoy and to the report, and together with what comes along.
_CACHE_DELAY = timedelta(milliseconds=200)
_CACHE_INTERVAL = timedelta(seconds=5)
_CACHE_BURST = 2
_STEP = timedelta(seconds=2)
# What is installed is read from files, and a sidecar describes itself at each commit.
_LOOK = timedelta(seconds=10)

T = TypeVar("T")
_log = structlog.get_logger(__name__)


async def run(
    options: SidecarOptions,
    ports: SidecarPorts,
    on_ready: Callable[[Ready], None],
    stop: asyncio.Event,
    patience: timedelta | None = None,
) -> None:
    """Run a sidecar until `stop` is set, then deregister, drain and end it.

    `on_ready` is called once, when it serves; `patience` is how long that may take (None: an
    agent keeps trying). Cancelling leaves Envoy running, for the next agent to adopt.

    Raises:
        Unavailable: it did not serve within `patience`.
        Conflict: another agent holds the id.
        PortInUse: somebody else listens on an address that was asked for.
        OutsideError: the state folder or Envoy cannot be used.
    """
    place = await places.take(options, ports)
    try:
        async with asyncio.TaskGroup() as tasks:
            sidecar = Sidecar(options, ports, place)
            async with sidecar.telemetry:
                running = tasks.create_task(sidecar.run(on_ready, patience))
                await stop.wait()
                await sidecar.end()
            running.cancel()
    except BaseExceptionGroup as group:
        raise _told(group) from group
    finally:
        place.folder.close()


def _told(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one thing to tell the user, where it is an error of ours; else all of it."""
    found: BaseException | None = group.subgroup(MeshError)
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found or group


class Sidecar:
    """One sidecar's tasks, and what they share."""

    def __init__(self, options: SidecarOptions, ports: SidecarPorts, place: Place) -> None:
        self._clock = clock = ports.clock
        self._place = place
        self._service = service = options.service
        self._grace = options.drain
        self._upgrade = Rarely(clock, _LOOK, ports.upgrade)
        self._store = LateStore(ports.store, clock)
        self._discovery = LateDiscovery(lambda: ports.discovery(self._store), clock)
        self._policies = PolicySource(self._store, service, clock, place.remembered.scope)
        self._catalog = CatalogSource(self._discovery, clock, place.remembered.catalog)
        issuer = MeshIssuer(ports.issuer, self._policies.newest)
        remembered = place.remembered
        self._trust = TrustSource(
            self._store, None if ports.is_trust_published else issuer, clock, remembered.bundle
        )
        self._certificates = CertificateKeeper(
            issuer, clock, service, self._policies.newest, remembered.svid
        )
        self._server = ports.configuration_server(place.folder.ads_socket)
        self._inputs = Inputs(
            scope=self._policies.newest,
            catalog=self._catalog,
            svid=self._certificates.newest,
            bundle=self._trust.newest,
        )
        self._reconciler = Reconciler(
            self._inputs, self._server, clock, place.placement, place.upstreams
        )
        self._acknowledged: Latest[Acknowledged] = Latest(Acknowledged())
        self._standing: Latest[Standing] = Latest(Standing())
        self._changed = asyncio.Event()
        self._reporter = Reporter(
            self._store, clock, id=place.folder.id, owner=place.owner, describe=self._describe
        )
        self._registration = self._registration_of(options)
        self._arrival = Arrival(
            clock,
            place=place,
            policies=self._policies,
            standing=self._standing,
            reporter=self._reporter,
            registration=self._registration,
            remember=lambda: self._step("remember", self._save(), _STEP),
        )
        observed = Observed(
            placement=place.placement,
            data_plane=place.data_plane,
            policies=self._policies,
            catalog=self._catalog,
            certificates=self._certificates,
            compiled=self._reconciler.compiled,
            standing=self._standing,
            acknowledged=self._acknowledged,
            troubles=self._troubles,
        )
        self.telemetry = Telemetry(observed, ports, options.metrics)

    async def run(
        self, on_ready: Callable[[Ready], None], patience: timedelta | None = None
    ) -> None:
        """Every task of the sidecar; runs until cancelled."""
        surviving: dict[str, Callable[[], Awaitable[None]]] = {
            "follow head": self._policies.run,
            "follow catalog": self._catalog.run,
            "follow trust": self._trust.run,
            "keep certificate": self._certificates.run,
            "reconcile": self._reconciler.run,
            "register": self._register,
            "report": self._report,
            "remember": self._remember,
        }
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._store.hold())
            tasks.create_task(self._discovery.hold())
            tasks.create_task(self._server.run())
            tasks.create_task(self._place.data_plane.run(self._leave))
            for what, attempt in surviving.items():
                tasks.create_task(forever(self._clock, what, attempt))
            tasks.create_task(self.telemetry.run())
            tasks.create_task(self._recall())
            tasks.create_task(self._acknowledge())
            tasks.create_task(self._offer_again())
            tasks.create_task(self._on(self._reconciler.compiled, self._stand))
            tasks.create_task(self._on(self._acknowledged, self._stand))
            tasks.create_task(self._on(self._standing, self._news))
            tasks.create_task(self._on(self._certificates.newest, self._news))
            tasks.create_task(self._on(self._trust.newest, self._news))
            tasks.create_task(self._on(self._catalog.newest, self._news))
            tasks.create_task(self._announce(on_ready, patience))

    async def end(self) -> None:
        """Leave: deregister, let callers learn it, drain Envoy, take the report back."""
        _log.info("ending", id=self._place.folder.id)
        if self._registration is not None:
            is_known = self._registration.is_registered
            await self._step("deregister", self._registration.withdraw(), _STEP)
            if is_known:
                await self._clock.sleep(_PROPAGATION)
        grace = self._grace
        await self._step("drain envoy", self._place.data_plane.drain(grace), grace + 4 * _STEP)
        await self._step("withdraw the status", self._reporter.withdraw(), _STEP)
        await self._step("remember", self._save(), _STEP)
        _log.info("ended", id=self._place.folder.id)

    async def _leave(self) -> None:
        """Let callers turn away from an earlier agent's Envoy that is about to be replaced."""
        if self._registration is not None:
            await self._step("reach discovery", self._discovery.entered(), _STEP)
            await self._step("deregister", self._registration.withdraw_earlier(), _STEP)
            await self._clock.sleep(_PROPAGATION)

    async def _step(self, what: str, work: Awaitable[object], limit: timedelta) -> None:
        """Something whose failure or slowness must not keep the next from happening."""
        try:
            async with asyncio.timeout(limit.total_seconds()):
                await work
        except (MeshError, TimeoutError) as error:
            _log.warning("a step failed, going on", step=what, reason=str(error) or "too slow")

    # --- cells to cells ----------------------------------------------------------------------

    async def _on(self, cell: Latest[T], act: Callable[[], None]) -> None:
        async for _ in cell.changes():
            act()

    def _stand(self) -> None:
        compiled, acknowledged = self._reconciler.compiled.value, self._acknowledged.value
        self._standing.set(self._standing.value.after(compiled, acknowledged))

    def _news(self) -> None:
        self._reporter.changed()
        self._changed.set()

    async def _acknowledge(self) -> None:
        async for acknowledged in self._server.acknowledgements():
            self._acknowledged.set(acknowledged)

    async def _offer_again(self) -> None:
        """What was refused for a reason that passes heals when it has passed."""
        backoff = Backoff()
        async for acknowledged in self._acknowledged.changes():
            passing = [each for each in acknowledged.rejections if each.is_passing]
            if not passing:
                backoff.reset()
                continue
            await self._clock.sleep(backoff.next())
            self._server.offer_again(passing)

    # --- start -------------------------------------------------------------------------------

    async def _recall(self) -> None:
        """Fall back on what was remembered where the servers do not answer at once."""
        remembered = self._place.remembered
        patience = _ADOPTION_PATIENCE if self._place.is_adopting else _START_PATIENCE
        is_told = await newer_within(self._policies.newest, 0, patience)
        if is_told:  # by the store: discovery has a moment of its own, from what is wanted of it
            await self._clock.sleep(_START_PATIENCE)
        self._catalog.recall()
        if is_told:
            return
        if remembered.scope is not None:
            _log.warning("serving from the cache", revision=remembered.scope.revision)
            self._policies.recall(remembered.scope)
        else:
            _log.warning("waiting for the store: nothing is remembered here")

    async def _announce(
        self, on_ready: Callable[[Ready], None], patience: timedelta | None
    ) -> None:
        told = asyncio.Event()

        def tell() -> None:
            told.set()
            on_ready(self._ready())

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._arrival.run(tell))
            if patience is not None and not await set_within(told, patience):
                await self._place.data_plane.drain(timedelta())
                reason = "; ".join(self._troubles()) or "the log says what it waits for"
                seconds = patience.total_seconds()
                raise Unavailable(f"the sidecar does not serve after {seconds:g} s: {reason}")

    def _ready(self) -> Ready:
        placement = self._place.placement
        return Ready(
            id=placement.id,
            service=placement.service,
            inbound=placement.inbound,
            outbound=placement.outbound,
            upstreams=self._reconciler.compiled.value.upstreams,
            revision=self._standing.value.revision,
            metrics=self.telemetry.address,
        )

    # --- discovery, reports, disk ------------------------------------------------------------

    def _registration_of(self, options: SidecarOptions) -> Registration | None:
        placement = self._place.placement
        if placement.inbound is None or placement.app is None:
            return None
        endpoint = Endpoint(
            id=placement.id,
            service=placement.service,
            address=advertised(placement.inbound, options.advertise),
            port=placement.inbound.port,
            meta=dict(options.meta),
            tags=options.tags,
        )
        is_ready = self._place.data_plane.is_ready
        return Registration(
            self._discovery, self._clock, endpoint, placement.app, is_ready, changed=self._news
        )

    async def _register(self) -> None:
        await self._arrival.serving.wait()
        if self._registration is not None:
            await self._registration.run()
        await asyncio.Event().wait()

    async def _report(self) -> None:
        await self._store.entered()
        await self._reporter.run()

    def _describe(self, now: datetime) -> SidecarStatus:
        placement, standing = self._place.placement, self._standing.value
        svid = self._certificates.newest.value
        return SidecarStatus(
            id=placement.id,
            service=placement.service,
            revision=standing.revision if self._arrival.announced.is_set() else 0,
            seen=standing.seen,
            inbound=placement.inbound,
            outbound=placement.outbound,
            upstreams=self._reconciler.compiled.value.upstreams,
            rejections=standing.rejections,
            stale="; ".join(self._troubles()) or None,
            upgrade=self._upgrade(),
            certificate_not_after=svid.not_after if svid else None,
            sockets=str(self._place.folder.sockets),
            app=placement.app,
            is_app_accepting=self._registration is None or self._registration.is_app_accepting,
            time=now,
        )

    def _troubles(self) -> list[str]:
        """Why this sidecar runs on old news, or its callers do, if so."""
        troubles = (
            self._store.trouble,
            self._discovery.trouble,
            self._policies.trouble,
            self._catalog.newest.value.stale,
            self._certificates.trouble(self._clock.now()),
            self._registration.trouble if self._registration else None,
        )
        found: list[str] = []
        for trouble in troubles:
            if trouble and not any(trouble in other for other in found):
                found.append(trouble)
        return found

    async def _remember(self) -> None:
        pace = Pace(self._clock, _CACHE_INTERVAL, _CACHE_BURST)
        while True:
            await self._changed.wait()
            await self._clock.sleep(_CACHE_DELAY)
            await pace.turn()
            self._changed.clear()
            await self._save()
            pace.spend()

    async def _save(self) -> None:
        """Keep what is in force: a revision that Envoy refuses in part is not remembered."""
        standing, scope = self._standing.value, self._policies.newest.value
        interest = self._catalog.interest.value
        is_good = scope is not None and standing.revision == scope.revision
        is_answered = interest is not None and self._catalog.covers(interest)
        await self._place.cache.save(
            Remembered(
                scope=scope if is_good and not standing.rejections else None,
                catalog=self._catalog.newest.value if is_answered else None,
                svid=self._certificates.newest.value,
                bundle=self._trust.newest.value,
            )
        )
