"""What is called: a Service's or ExternalService's instances and how callers treat them."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from mesh.compiler.directory import Directory, Known, service_target
from mesh.compiler.view import Destination
from mesh.diagnostics import Position
from mesh.model.catalog import Catalog, Endpoint
from mesh.model.identity import Identity, ServiceName
from mesh.model.policy import (
    Address,
    Algorithm,
    ExternalService,
    InstanceSelector,
    Limits,
    OutlierDetection,
    Retry,
    Service,
    Target,
    Timeouts,
    TrafficPolicy,
)
from mesh.model.revision import ManifestEntry

# A backend that fails fast looks fast: without ejection it draws two thirds of the load.
_LATENCY_AWARE_EJECTION = OutlierDetection(
    consecutive_5xx=3,
    consecutive_gateway_errors=3,
    interval=timedelta(seconds=1),
    base_ejection=timedelta(seconds=30),
    max_ejection=timedelta(seconds=300),
)


@dataclass(frozen=True, slots=True)
class Traffic:
    """All TrafficPolicies of one destination, merged; `ejects` False is an explicit `off`."""

    algorithm: Algorithm | None = None
    timeouts: Timeouts = Timeouts()  # noqa: RUF009 -- frozen
    retry: Retry | None = None
    ejects: OutlierDetection | bool | None = None
    limits: Limits | None = None
    sources: tuple[Position, ...] = ()

    @property
    def ejection(self) -> OutlierDetection | None:
        """Which endpoints are left out, with what the latency-aware algorithm cannot do without."""
        if isinstance(self.ejects, OutlierDetection):
            return self.ejects
        if self.ejects is None and self.algorithm is Algorithm.LATENCY_AWARE:
            return _LATENCY_AWARE_EJECTION
        return None


def traffic(known: Directory, target: Target, caller: ServiceName) -> Traffic:
    """How `caller` treats a destination: by policies of the destination's own namespace and of
    the caller's; what they leave open for a view is as for the service that it is a view of. Two
    that say the same field differently are refused before they come here; should it happen all
    the same, the oldest wins.
    """
    found = [
        (policy, entry)
        for each in _and_base(known, target)
        for policy, entry in known.traffic.get(each, ())
        if policy.key.namespace in (each.namespace, caller.namespace)
    ]
    policies = [policy for policy, _ in found]
    return Traffic(
        algorithm=_first(policy.algorithm for policy in policies),
        timeouts=_timeouts(policies),
        retry=_first(policy.retry for policy in policies),
        ejects=_ejects(policies),
        limits=_first(policy.limits for policy in policies),
        sources=tuple(entry.position for _, entry in found),
    )


def _and_base(known: Directory, target: Target) -> tuple[Target, ...]:
    """A destination, and the service that it is a view of and speaks as."""
    item = known.known.get(target)
    if item is None or not isinstance(item.service, Service):
        return (target,)
    base = known.known.get(service_target(item.service.identity_of))
    if base is None or base.service.protocol.is_http != item.service.protocol.is_http:
        return (target,)
    return tuple(dict.fromkeys((target, base.target)))


def destination(item: Known, settings: Traffic, catalog: Catalog, trust_domain: str) -> Destination:
    """The cluster-to-be of one Service or ExternalService."""
    service = item.service
    peer: str | None = None
    endpoints: tuple[Endpoint, ...] = ()
    addresses: tuple[Address, ...] = ()
    match service:
        case Service():
            peer = Identity(trust_domain, service.identity_of).uri
            endpoints = _chosen(service.selector, catalog)
        case ExternalService():
            addresses = service.endpoints
    return Destination(
        target=item.target,
        protocol=service.protocol,
        peer=peer,
        endpoints=endpoints,
        addresses=addresses,
        algorithm=settings.algorithm or Algorithm.LEAST_REQUEST,
        timeouts=settings.timeouts,
        retry=settings.retry,
        outlier_detection=settings.ejection,
        limits=settings.limits or Limits(),
        sources=positions(item.entry) + settings.sources,
    )


def positions(entry: ManifestEntry | None) -> tuple[Position, ...]:
    """Where a document is; a registered name without one is nowhere."""
    return () if entry is None else (entry.position,)


def _chosen(selector: InstanceSelector, catalog: Catalog) -> tuple[Endpoint, ...]:
    """The instances that a selector means, by id."""
    registered = catalog.endpoints.get(selector.service, ())
    return tuple(sorted((e for e in registered if _selects(selector, e)), key=lambda e: e.id))


def _selects(selector: InstanceSelector, endpoint: Endpoint) -> bool:
    return (
        selector.meta.items() <= endpoint.meta.items()
        and selector.tags <= endpoint.tags
        and selector.datacenter in (None, endpoint.datacenter)
    )


def _timeouts(policies: list[TrafficPolicy]) -> Timeouts:
    return Timeouts(
        connect=_first(policy.timeouts.connect for policy in policies),
        request=_first(policy.timeouts.request for policy in policies),
        idle=_first(policy.timeouts.idle for policy in policies),
    )


def _ejects(policies: list[TrafficPolicy]) -> OutlierDetection | bool | None:
    return next((p.outlier_detection for p in policies if p.outlier_detection is not None), None)


_T = TypeVar("_T")


def _first(values: Iterable[_T | None]) -> _T | None:
    return next((value for value in values if value is not None), None)
