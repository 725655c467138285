"""The composition root: settings become adapters, for the length of a command."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from mesh import log
from mesh.adapters.clock import SystemClock
from mesh.cli.flags import Flags
from mesh.ports import Clock, Discovery, Issuer, Store
from mesh.settings import AuthorityService, EtcdStore, Settings, SQLiteStore

if TYPE_CHECKING:
    import typer

    from mesh.adapters.ca_client import ServiceIssuer
    from mesh.adapters.issuer import LocalIssuer
    from mesh.sidecar.ports import SidecarPorts

T = TypeVar("T")


def settings_of(context: "typer.Context") -> Settings:
    """The settings of this command; from here on its log goes to standard error.

    Raises:
        UsageError: one of them is wrong.
    """
    flags = context.obj if isinstance(context.obj, Flags) else Flags()
    log.configure("debug" if flags.verbose else "warning")
    return flags.settings()


@asynccontextmanager
async def open_store(settings: Settings, clock: Clock) -> AsyncIterator[Store]:
    """The store of the settings, connected."""
    async with make_store(settings, clock) as store:
        yield store


def make_store(settings: Settings, clock: Clock) -> Store:
    """The store of the settings, not yet connected."""
    match settings.store:
        case SQLiteStore(path):
            from mesh.adapters.embedded import EmbeddedStore

            return EmbeddedStore(path, clock=clock)
        case EtcdStore():
            from mesh.adapters import etcd

            given = settings.store
            return etcd.EtcdStore(
                etcd.EtcdSettings(
                    endpoints=given.endpoints,
                    prefix=given.prefix,
                    cacert=given.cacert,
                    cert=given.cert,
                    key=given.key,
                ),
                clock=clock,
            )


def make_discovery(settings: Settings, store: Store, clock: Clock) -> Discovery:
    """The discovery of the settings; the embedded one lives in `store`."""
    if settings.discovery is None:
        from mesh.adapters.registered import RegisteredDiscovery

        return RegisteredDiscovery(store, clock=clock)
    from mesh.adapters.consul import ConsulDiscovery, ConsulSettings

    given = settings.discovery
    return ConsulDiscovery(
        ConsulSettings(
            address=f"{given.host}:{given.port}",
            scheme="https" if given.cacert or given.cert else "http",
            token_file=given.token_file,
            datacenter=given.datacenter,
            cacert=given.cacert,
            cert=given.cert,
            key=given.key,
        ),
        clock=clock,
    )


def make_issuer(settings: Settings, clock: Clock, trust_domain: str | None) -> "LocalIssuer":
    """The certificate authority in the state folder of this host."""
    from mesh.adapters.issuer import LocalIssuer

    return LocalIssuer(settings.ca, clock=clock, trust_domain=trust_domain)


def make_service_issuer(
    settings: Settings, service: AuthorityService, clock: Clock, trust_domain: str | None
) -> "ServiceIssuer":
    """The client of a certificate authority's service."""
    from mesh.adapters.ca_client import ServiceIssuer, ServiceSettings

    # Kept apart by what vouches for it: another pin asks anew.
    known_as = f"{service.host}:{service.port} {service.fingerprints} {service.cacert}"
    name = hashlib.sha256(known_as.encode()).hexdigest()[:16]
    return ServiceIssuer(
        ServiceSettings(
            host=service.host,
            port=service.port,
            fingerprints=service.fingerprints,
            cacert=service.cacert,
            token_file=settings.token_file,
            learned=settings.state / "authorities" / f"{name}.json",
        ),
        clock=clock,
        trust_domain=trust_domain,
    )


def _issuer(settings: Settings, clock: Clock, trust_domain: str) -> Issuer:
    if settings.authority is None:
        return make_issuer(settings, clock, trust_domain)
    return make_service_issuer(settings, settings.authority, clock, trust_domain)


def sidecar_ports(settings: Settings) -> "SidecarPorts":
    """Everything that a sidecar needs of the outside world."""
    from mesh.adapters.ads import AdsServer
    from mesh.adapters.envoy import EnvoyProcess
    from mesh.adapters.installed import Installed
    from mesh.adapters.scrape import ScrapeEndpoint
    from mesh.sidecar.ports import SidecarPorts

    clock = SystemClock()
    return SidecarPorts(
        clock=clock,
        store=lambda: make_store(settings, clock),
        discovery=lambda store: make_discovery(settings, store, clock),
        issuer=lambda trust_domain: _issuer(settings, clock, trust_domain),
        is_trust_published=settings.authority is not None,
        configuration_server=AdsServer,
        scrape=ScrapeEndpoint,
        data_plane=lambda folder, bootstrap: EnvoyProcess(
            folder=folder, bootstrap=bootstrap, clock=clock
        ),
        upgrade=Installed().upgrade,
    )


def with_store(context: "typer.Context", action: Callable[[Store, Clock], Awaitable[T]]) -> T:
    """Run an operation on the store of the settings."""
    settings = settings_of(context)

    async def work() -> T:
        clock = SystemClock()
        async with open_store(settings, clock) as store:
            return await action(store, clock)

    return asyncio.run(work())
