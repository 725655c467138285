"""What one sidecar needs, with every question of precedence answered: the compiler's IR.

`scope.py` builds a View from policies, catalog and placement; `listeners`, `routes`, `clusters`,
`secrets` and `authorization` each turn their part of it into Envoy's JSON.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum

from mesh.diagnostics import Position
from mesh.model.catalog import Endpoint
from mesh.model.identity import SVID, TrustBundle
from mesh.model.placement import Placement
from mesh.model.policy import (
    AccessPolicy,
    Address,
    Algorithm,
    Default,
    Filters,
    HTTPMatch,
    Limits,
    OutlierDetection,
    Protocol,
    Retry,
    Target,
    Timeouts,
)


class Hop(StrEnum):
    """How requests travel to a destination; only L7 is generated so far (`performance`)."""

    L4 = "l4"
    L4_CALLEE = "l4-callee"
    L7 = "l7"


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A Service or ExternalService that is called: one cluster.

    `peer` is the identity (SPIFFE URI) that its instances must prove; None is outside the mesh
    (plain, static `addresses`). `endpoints` are those its selector chose, by id. The traffic
    settings are of all TrafficPolicies on it, merged; `sources` are those documents' places.
    """

    target: Target
    protocol: Protocol
    peer: str | None
    endpoints: tuple[Endpoint, ...] = ()
    addresses: tuple[Address, ...] = ()
    algorithm: Algorithm = Algorithm.LEAST_REQUEST
    timeouts: Timeouts = Timeouts()  # noqa: RUF009 -- frozen
    retry: Retry | None = None
    outlier_detection: OutlierDetection | None = None
    limits: Limits = Limits()  # noqa: RUF009 -- frozen
    hop: Hop = Hop.L7
    sources: tuple[Position, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A backend's part of a route. `destination is None`: it vanished, its share is 500."""

    destination: Target | None
    weight: int
    filters: Filters = Filters()  # noqa: RUF009 -- frozen


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One match of one rule, in its place in the order. No shares and no redirect: 500.

    `timeout` and `backend_timeout` are the route's own, else the parent's TrafficPolicy's;
    `retry` is the parent's TrafficPolicy's.
    """

    match: HTTPMatch
    filters: Filters = Filters()  # noqa: RUF009 -- frozen
    shares: tuple[Share, ...] = ()
    timeout: timedelta | None = None
    backend_timeout: timedelta | None = None
    retry: Retry | None = None
    rule: str = ""
    sources: tuple[Position, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualService:
    """What answers to a Host: the first route that matches; none: 404 `no-route`.

    `hosts` are without ports, `port` is the Service's: `host` and `host:port` are both meant,
    any other port is `unknown-host`.
    """

    target: Target
    hosts: tuple[str, ...]
    port: int
    routes: tuple[Route, ...]
    sources: tuple[Position, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TCPUpstream:
    """A TCP service in scope, on its own loopback address."""

    listen: Address
    destination: Target
    sources: tuple[Position, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Inbound:
    """What protects and reaches the application. `access` are the policies that target it,
    its namespace or the mesh, with the place of each.
    """

    protocol: Protocol
    listen: Address
    app: Address
    access_default: Default
    access: tuple[tuple[AccessPolicy, Position], ...] = ()
    sources: tuple[Position, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Everything one Envoy is configured from; equal views compile to equal bytes.

    `outbound_access` holds, for each ExternalService among the destinations, the policies that
    target it: the caller's own sidecar decides them (the caller is `placement.service`), and,
    where no rule does, `access_default`.
    """

    revision: int
    trust_domain: str
    placement: Placement
    max_connection_duration: timedelta
    access_default: Default = Default.DENY
    destinations: Mapping[Target, Destination] = field(default_factory=dict)
    services: tuple[VirtualService, ...] = ()
    upstreams: tuple[TCPUpstream, ...] = ()
    inbound: Inbound | None = None
    outbound_access: Mapping[Target, tuple[tuple[AccessPolicy, Position], ...]] = field(
        default_factory=dict
    )
    svid: SVID | None = None
    bundle: TrustBundle | None = None

    @property
    def has_identity(self) -> bool:
        """Whether it can prove who it is and verify others; without, nobody may call it."""
        return self.svid is not None and self.bundle is not None

    def part(
        self, targets: Iterable[Target] = (), services: tuple[VirtualService, ...] = ()
    ) -> "View":
        """The view with these destinations and services only: what is generated from a part can
        depend on nothing else, and stays while the part does.
        """
        wanted = frozenset(targets)
        return replace(
            self,
            revision=0,
            destinations={t: each for t, each in self.destinations.items() if t in wanted},
            services=services,
            outbound_access={t: each for t, each in self.outbound_access.items() if t in wanted},
        )
