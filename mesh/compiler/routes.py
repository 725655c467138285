"""Route configurations: which cluster answers to a request, and what is done to it on the way.

A View has its routes in the order of precedence; Envoy takes the first that matches. What no
cluster can answer is answered here, with `x-mesh-reason`: 404 for an unknown host and for a
request that no rule matches, 500 where there is nothing to send it to.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

from mesh.compiler import authorization, headers, paths, redirects, retries
from mesh.compiler.durations import text
from mesh.compiler.generated import (
    APP_CLUSTER,
    INBOUND_ROUTES,
    JSON,
    OUTBOUND_ROUTES,
    REASON_HEADER,
    Generated,
    cluster_name,
)
from mesh.compiler.memory import Memory
from mesh.compiler.references import ABSENT_CLUSTER
from mesh.compiler.view import Route, Share, View, VirtualService
from mesh.diagnostics import Position
from mesh.model.catalog import Health
from mesh.model.identity import ServiceName
from mesh.model.policy import (
    Algorithm,
    Filters,
    HTTPMatch,
    Kind,
    Target,
)
from mesh.model.snapshot import ResourceType

_LOAD_HEADER: Final = "endpoint-load-metrics"
IMPLICIT_ROUTE: Final = "-"
"""What the statistics call the route of a service that no rule routes."""

_UPGRADES: Final[JSON] = {"upgrade_configs": [{"upgrade_type": "websocket"}]}


@dataclass(frozen=True, slots=True)
class _Host:
    """A virtual host, the clusters that its requests can end at, and whose documents say so."""

    json: JSON
    clusters: frozenset[str] = frozenset()
    sources: frozenset[Position] = frozenset()


def outbound(view: View, memory: Memory) -> Generated:
    """The routes of what the service calls: a virtual host for each name in scope."""
    hosts = []
    for service in view.services:
        part = view.part(_targets(service), (service,))
        key = (outbound, service.target)
        hosts.append(memory.of(key, part, partial(_virtual_host, part, service)))
    caller = view.placement.service
    hosts.append(memory.of(_unknown_host, caller, partial(_unknown_host, caller)))
    whole = tuple(hosts)
    return memory.of(outbound, whole, partial(_outbound, whole))


def _outbound(hosts: tuple[_Host, ...]) -> Generated:
    clusters = frozenset[str]().union(*(each.clusters for each in hosts))
    return Generated(
        type=ResourceType.ROUTE,
        name=OUTBOUND_ROUTES,
        json={"name": OUTBOUND_ROUTES, "virtual_hosts": [each.json for each in hosts]},
        sources=tuple(sorted(frozenset[Position]().union(*(each.sources for each in hosts)))),
        names=tuple((ResourceType.CLUSTER, name) for name in sorted(clusters)),
    )


def _targets(service: VirtualService) -> frozenset[Target]:
    """Where requests to a service can end."""
    return frozenset(
        share.destination
        for route in service.routes
        for share in _live(route)
        if share.destination is not None
    )


def inbound(view: View) -> Generated:
    """The routes to the application: everything, with no limit of time of its own."""
    everything = {
        "match": {"prefix": "/"},
        "route": {"cluster": APP_CLUSTER, "timeout": "0s", **_UPGRADES},
    }
    return Generated(
        type=ResourceType.ROUTE,
        name=INBOUND_ROUTES,
        json={
            "name": INBOUND_ROUTES,
            "virtual_hosts": [{"name": APP_CLUSTER, "domains": ["*"], "routes": [everything]}],
            # Only a sidecar says why a request failed; its own replies get theirs later.
            "response_headers_to_remove": [REASON_HEADER],
        },
        sources=view.inbound.sources if view.inbound else (),
        names=((ResourceType.CLUSTER, APP_CLUSTER),),
    )


def _virtual_host(view: View, service: VirtualService) -> _Host:
    domains = [domain for host in service.hosts for domain in (host, f"{host}:{service.port}")]
    routes = [each for route in service.routes for each in _routes(view, service, route)]
    nothing = {
        "match": {"prefix": "/"},
        **_answer(404, "no-route", f"no route of {service.target.service} matches this request"),
    }
    return _Host(
        {
            "name": cluster_name(service.target),
            "domains": domains,
            "routes": [*routes, nothing],
        },
        frozenset(map(cluster_name, _targets(service))),
        frozenset(service.sources).union(*(route.sources for route in service.routes)),
    )


def _unknown_host(caller: ServiceName) -> _Host:
    body = (
        f"{caller} knows no service by this host and port, or may not call it; "
        f'"mesh describe service {caller.name} --namespace {caller.namespace}" lists what it may'
    )
    anything = {"match": {"prefix": "/"}, **_answer(404, "unknown-host", body)}
    return _Host({"name": "unknown-host", "domains": ["*"], "routes": [anything]})


def _routes(view: View, service: VirtualService, route: Route) -> Iterator[JSON]:
    """One route; for a redirect to the request's own host perhaps one more for each host."""
    common: JSON = {"name": route.rule} if route.rule else {}
    if view.placement.metrics:
        common["stat_prefix"] = route.rule or IMPLICIT_ROUTE
    common["match"] = _match(route.match)
    redirect = route.filters.redirect
    if redirect is not None:
        common |= headers.modifications(route.filters)
        for host, action in redirects.actions(redirect, service, route.match.path):
            wanted = [*common["match"].get("headers", ()), *host]
            match = common["match"] | ({"headers": wanted} if wanted else {})
            yield common | {"match": match, "redirect": action}
    elif any(share.destination for share in _live(route)):
        yield common | _forward(view, route)
    else:
        yield common | _answer(500, "no-backend", "this route has no backend to send to")


def _match(match: HTTPMatch) -> JSON:
    fields = dict(paths.match(match.path))
    wanted = headers.matchers(match.headers)
    if match.method is not None:
        wanted.append({"name": ":method", "string_match": {"exact": match.method}})
    if wanted:
        fields["headers"] = wanted
    if match.query:
        fields["query_parameters"] = headers.matchers(match.query)
    return fields


def _answer(status: int, reason: str, body: str) -> JSON:
    return {
        "direct_response": {"status": status, "body": {"inline_string": body + "\n"}},
        **headers.response_header(REASON_HEADER, reason),
    }


def _live(route: Route) -> tuple[Share, ...]:
    """The shares that get requests: a weight of zero gets exactly none."""
    return tuple(share for share in route.shares if share.weight > 0)


def _forward(view: View, route: Route) -> JSON:
    """Where to, how often, how long, as which URL, and with which headers."""
    clusters, modifications = _clusters(view, route)
    action = clusters | _times(view, route) | _UPGRADES
    rewrite = route.filters.rewrite
    if rewrite is not None and rewrite.hostname is not None:
        action["host_rewrite_literal"] = rewrite.hostname
    if rewrite is not None and rewrite.path is not None:
        action["regex_rewrite"] = paths.rewrite(rewrite.path, route.match.path)
    return {"route": action, **modifications}


def _clusters(view: View, route: Route) -> tuple[JSON, JSON]:
    """The cluster or the weighted clusters, and the header fields of the route as a whole."""
    shares = _live(route)
    if len(shares) == 1 and (only := shares[0].destination) is not None:
        both = (route.filters, shares[0].filters)
        fields = headers.modifications(*both, strip=_foreign(view, only))
        return {"cluster": cluster_name(only)}, fields | _access(view, only)
    apart = any(each.filters.request_headers or each.filters.response_headers for each in shares)
    outer = (route.filters,) if apart else ()
    entries = [_entry(view, share, outer) for share in shares]
    clusters: JSON = {"weighted_clusters": {"clusters": entries}}
    if any(share.destination is None for share in shares):
        clusters["cluster_not_found_response_code"] = "INTERNAL_SERVER_ERROR"
    return clusters, {} if apart else headers.modifications(route.filters)


def _entry(view: View, share: Share, outer: tuple[Filters, ...]) -> JSON:
    if share.destination is None:
        return {"name": ABSENT_CLUSTER, "weight": share.weight}
    entry: JSON = {"name": cluster_name(share.destination), "weight": share.weight}
    strip = _foreign(view, share.destination)
    entry |= headers.modifications(*outer, share.filters, strip=strip)
    return entry | _access(view, share.destination)


def _access(view: View, target: Target) -> JSON:
    """The switch and the rules of the filter that decides calls of ExternalServices."""
    rules = authorization.outbound(view, target)
    return {"typed_per_filter_config": {authorization.EXTERNAL_ACCESS: rules}} if rules else {}


def _foreign(view: View, target: Target) -> list[str]:
    """Response headers that must not reach the caller: a reason from outside the mesh, and the
    load report that the cluster wrote for its own balancer.
    """
    outside = [REASON_HEADER] if target.kind is Kind.EXTERNAL_SERVICE else []
    aware = view.destinations[target].algorithm is Algorithm.LATENCY_AWARE
    return [*outside, _LOAD_HEADER] if aware else outside


def _times(view: View, route: Route) -> JSON:
    """The time-out and the retries. Zero means none, and Envoy's default of 15 s never holds.

    Without retries the only try is the whole request: the shorter time-out holds.
    """
    if route.retry is None or not route.retry.attempts:
        limits = [each for each in (route.timeout, route.backend_timeout) if each]
        return {"timeout": text(min(limits, default=timedelta()))}
    policy = retries.policy(
        route.retry,
        try_timeout=route.backend_timeout,
        last_resort=any(_has_last_resort(view, share) for share in _live(route)),
    )
    return {"timeout": text(route.timeout or timedelta()), "retry_policy": policy}


def _has_last_resort(view: View, share: Share) -> bool:
    """Whether a destination has one endpoint and, behind it, some that have fallen silent."""
    if share.destination is None:
        return False
    health = [endpoint.health for endpoint in view.destinations[share.destination].endpoints]
    return health.count(Health.HEALTHY) == 1 and Health.DEGRADED in health
