"""Sidecars of a small mesh: compiled views with real certificates, each in a real Envoy.

No store, no discovery, no agent: what the compiler makes is all that is under test.
"""

import http.client
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from mesh.adapters.clock import SystemClock
from mesh.ca.chain import to_pem
from mesh.compiler.scope import build_view
from mesh.compiler.view import View
from mesh.model.catalog import Catalog, Endpoint
from mesh.model.identity import SVID, Identity, ServiceName, TrustBundle
from mesh.model.placement import Placement
from mesh.model.policy import Address
from mesh.model.revision import Policies
from tests.support import certificates, compiled, envoy
from tests.support.policies import name

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Authority:
    """A CA that gives each service its certificate."""

    peers: certificates.Peers = field(
        default_factory=lambda: certificates.Peers.made(now=SystemClock().now())
    )

    @property
    def bundle(self) -> TrustBundle:
        root = self.peers.mesh.root.certificate
        return TrustBundle(certificates.TRUST_DOMAIN, to_pem(root))

    def svid(self, service: ServiceName) -> SVID:
        identity = Identity(certificates.TRUST_DOMAIN, service)
        issuer = self.peers.mesh.intermediate
        leaf = certificates.build(
            certificates.Leaf(issuer=issuer, now=self.peers.now, uris=(identity.uri,))
        )
        end = self.peers.now + timedelta(hours=24)
        return SVID(identity, leaf.chain_pem, leaf.private_key_pem, self.peers.now, end)


def placement(
    service: str, *, app: int | None = None, upstreams: tuple[str, ...] = ()
) -> Placement:
    """A sidecar on free ports; with `app`, in front of an application."""
    own = name(service)
    return Placement(
        id=f"{own.name}-1",
        service=own,
        outbound=Address(HOST, 0),
        inbound=Address(HOST, 0) if app is not None else None,
        app=Address(HOST, app) if app is not None else None,
        upstreams={name(each): Address(HOST, 0) for each in upstreams},
    )


def endpoint(service: str, port: int, number: int = 1, **meta: str) -> Endpoint:
    own = name(service)
    return Endpoint(id=f"{own.name}-{number}", service=own, address=HOST, port=port, meta=meta)


def catalog(*endpoints: Endpoint) -> Catalog:
    found: dict[ServiceName, tuple[Endpoint, ...]] = {}
    for each in endpoints:
        found[each.service] = (*found.get(each.service, ()), each)
    return Catalog(found)


def view(
    policies: Policies,
    place: Placement,
    authority: Authority | None = None,
    instances: Catalog | None = None,
) -> View:
    return build_view(
        revision=1,
        policies=policies,
        catalog=instances or Catalog(),
        placement=place,
        svid=authority.svid(place.service) if authority else None,
        bundle=authority.bundle if authority else None,
    )


@contextmanager
def running(
    policies: Policies,
    *,
    apps: Mapping[str, int],
    callers: tuple[str, ...],
    upstreams: tuple[str, ...] = (),
) -> Iterator[Mapping[str, envoy.RunningEnvoy]]:
    """A sidecar before each application and one for each caller, by service."""
    authority = Authority()
    with ExitStack() as stack:
        found: dict[str, envoy.RunningEnvoy] = {}
        for service, port in apps.items():
            own = view(policies, placement(service, app=port), authority)
            found[service] = stack.enter_context(envoy.running(compiled.static(own)))
        instances = catalog(*(endpoint(each, found[each].ports["inbound"]) for each in apps))
        for service in callers:
            place = placement(service, upstreams=upstreams)
            own = view(policies, place, authority, instances)
            found[service] = stack.enter_context(envoy.running(compiled.static(own)))
        yield found


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def reason(self) -> str | None:
        return self.headers.get("x-mesh-reason")


def request(
    port: int,
    path: str = "/",
    *,
    method: str = "GET",
    host: str = "api",
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request on a connection of its own, the path exactly as it is written."""
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.putrequest(method, "/", skip_host=True, skip_accept_encoding=True)
        # Past the checks of http.client: a path may be as wrong as a client makes it.
        start = f"{method} {path} HTTP/1.1".encode("latin-1")
        connection._buffer[0] = start  # type: ignore[attr-defined]
        connection.putheader("Host", host)
        for key, value in (headers or {}).items():
            connection.putheader(key, value)
        connection.endheaders()
        response = connection.getresponse()
        found = {key.lower(): value for key, value in response.getheaders()}
        return Answer(response.status, found, response.read())
    finally:
        connection.close()


def exchange(port: int, data: bytes, size: int) -> bytes:
    """Send bytes over TCP and read up to `size`; less where the other side hangs up."""
    with socket.create_connection((HOST, port), timeout=10) as connection:
        received = b""
        try:
            connection.sendall(data)
            while len(received) < size and (part := connection.recv(size - len(received))):
                received += part
        except ConnectionError:
            pass
        return received
