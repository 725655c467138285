"""The certificate authority's service inside a test, and hosts that ask it for certificates."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import aiohttp

from mesh import tls
from mesh.adapters.ca_client import ServiceIssuer, ServiceSettings
from mesh.adapters.clock import SystemClock
from mesh.adapters.issuer import LocalIssuer
from mesh.authority import run
from mesh.authority.limits import Limits
from mesh.authority.ports import AuthorityOptions, AuthorityPorts, Serving
from mesh.authority.registry import Registry
from mesh.ca.chain import read_svid
from mesh.ca.request import new_key_and_csr
from mesh.model.identity import SVID, Identity, ServiceName
from mesh.model.policy import Address
from mesh.ports import Clock, Issuer, Store
from tests.support.revisions import CLOCK

HOST = "127.0.0.1"
ANY = Address(HOST, 0)
HOUR = timedelta(hours=1)
WEB = Identity("mesh.local", ServiceName("default", "web"))
DEADLINE = 10.0


class ShiftedClock(SystemClock):
    """Real time, some time ago or to come."""

    def __init__(self, shift: timedelta) -> None:
        self._shift = shift

    def now(self) -> datetime:
        return super().now() + self._shift


@dataclass(frozen=True)
class Service:
    """A service that serves. `stop` ends it as SIGTERM does."""

    serving: Serving
    store: Store
    folder: Path
    issuer: LocalIssuer
    stop: asyncio.Event

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.serving.listen.port}"

    async def token(
        self, service: ServiceName = WEB.service, *, ttl: timedelta = HOUR, uses: int = 1
    ) -> str:
        return (await Registry(self.store, CLOCK).create(service, ttl=ttl, uses=uses))[0]

    async def session(self, svid: SVID | None = None) -> aiohttp.ClientSession:
        """A client that trusts the authority, and shows a certificate if it is given one."""
        roots = (await self.issuer.bundle()).roots_pem
        proof = (svid.chain_pem, svid.private_key_pem) if svid else ()
        connector = aiohttp.TCPConnector(ssl=tls.client_context(roots, *proof))
        return aiohttp.ClientSession(self.url, connector=connector)

    def client(self, host: Path, token: str | None = None, **other: object) -> ServiceIssuer:
        """A host that knows the authority by the fingerprint of its ready line."""
        return client(self.serving.url, host, token, **other)


def client(
    url: str, host: Path, token: str | None = None, *, clock: Clock = CLOCK, **other: object
) -> ServiceIssuer:
    """A host with a state folder of its own, for a MESH_CA."""
    split = urlsplit(url)
    assert split.hostname is not None
    assert split.port is not None
    host.mkdir(exist_ok=True)
    if token is not None:
        (host / "token").write_text(token + "\n")
    given: dict[str, object] = {
        "host": split.hostname,
        "port": split.port,
        "fingerprints": tuple(parse_qs(split.query)["fingerprint"]),
        "token_file": None if token is None else host / "token",
        "learned": host / "authorities" / "ca.json",
    }
    return ServiceIssuer(ServiceSettings(**(given | other)), clock=clock, trust_domain="mesh.local")


async def svid_of(
    issuer: Issuer,
    identity: Identity = WEB,
    current: SVID | None = None,
    lifetime: timedelta = HOUR,
) -> SVID:
    """What a sidecar does to get a certificate."""
    key_pem, csr_pem = new_key_and_csr(identity)
    chain_pem = await issuer.issue(identity, csr_pem, lifetime, current)
    return read_svid(identity, chain_pem, key_pem, await issuer.bundle(), CLOCK.now())


@asynccontextmanager
async def serving(
    folder: Path,
    store: Store,
    *,
    clock: Clock = CLOCK,
    listen: Address = ANY,
    names: tuple[str, ...] = (HOST,),
    longest_leaf: timedelta = timedelta(days=7),
    metrics: Address | None = None,
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> AsyncIterator[Service]:
    """The authority of `folder` as a service; ended on leaving."""
    told: asyncio.Future[Serving] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    issuer = LocalIssuer(folder, clock=clock)
    options = AuthorityOptions(
        listen=listen,
        names=names,
        version="1.2.3",
        longest_leaf=longest_leaf,
        metrics=metrics,
        limits=limits,
    )
    ports = AuthorityPorts(clock=clock, store=store, signer=issuer)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(run.run(options, ports, told.set_result, stop))
            async with asyncio.timeout(DEADLINE):
                ready = await told
            try:
                yield Service(ready, store, folder, issuer, stop)
            finally:
                stop.set()
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None


# --- what the API is asked by hand --------------------------------------------------------------


def ask(identity: Identity = WEB, **other: object) -> dict[str, object]:
    """A join's body; a renewal takes what it needs of it."""
    return {
        "csr": new_key_and_csr(identity)[1].decode(),
        "lifetime_seconds": 3600,
        "trust_domain": identity.trust_domain,
        "namespace": identity.service.namespace,
        "service": identity.service.name,
    } | other


async def connection(service: Service) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that trusts the authority, before its first byte."""
    roots = (await service.issuer.bundle()).roots_pem
    port = service.serving.listen.port
    return await asyncio.open_connection("127.0.0.1", port, ssl=tls.client_context(roots))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
