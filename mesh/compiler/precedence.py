"""Which routes a caller's requests to a service follow, in the order in which they are tried.

Gateway API v1.6, `HTTPRouteRule.matches` and the GAMMA text on producer and consumer routes. Envoy
takes the first route that matches, so the whole of the specification's precedence is this order.
"""

from dataclasses import replace

from mesh.compiler.destinations import Traffic, positions
from mesh.compiler.directory import Directory, Known
from mesh.compiler.view import Route, Share
from mesh.model.identity import ServiceName
from mesh.model.policy import (
    Backend,
    HTTPMatch,
    HTTPRoute,
    HTTPRule,
    PathMatchType,
    Target,
)
from mesh.model.revision import ManifestEntry

_PATH_RANK = {PathMatchType.EXACT: 0, PathMatchType.REGEX: 1, PathMatchType.PREFIX: 2}

Attached = tuple[HTTPRoute, ManifestEntry]
_Order = tuple[int, int, bool, int, int, int, str, str, int, int]


def attached(known: Directory, parent: Known, caller: ServiceName) -> tuple[Attached, ...]:
    """The routes of `parent` for this caller, oldest first.

    Routes of the caller's own namespace on a service of another one (consumer routes) replace
    those of the service's namespace (producer routes) and are not merged with them. Routes of
    any third namespace are for the callers there.
    """
    port = parent.service.port
    here = [
        item
        for item in known.routes.get(parent.target, ())
        if any(ref.target == parent.target and ref.port in (None, port) for ref in item[0].parents)
    ]
    consumer = tuple(item for item in here if item[0].key.namespace == caller.namespace)
    producer = tuple(item for item in here if item[0].key.namespace == parent.target.namespace)
    return consumer or producer


def ordered(routes: tuple[Attached, ...], settings: Traffic, known: Directory) -> tuple[Route, ...]:
    """Every match of every rule as a route of its own, most specific first."""
    expanded: list[tuple[_Order, Route]] = []
    for route, entry in routes:
        for index, rule in enumerate(route.rules):
            made = _route(rule, settings, known)
            made = replace(made, rule=_name(route, rule, index), sources=(entry.position,))
            for number, match in enumerate(rule.matches):
                expanded.append((_order(match, entry, index, number), replace(made, match=match)))
    return tuple(route for _, route in sorted(expanded, key=lambda pair: pair[0]))


def backends(routes: tuple[Attached, ...], known: Directory) -> set[Target]:
    """What the routes send to: the destinations of all shares of `ordered`."""
    shares = (
        _share(each, known)
        for route, _ in routes
        for rule in route.rules
        for each in rule.backends
        if each.weight
    )
    return {share.destination for share in shares if share.destination is not None}


def implicit_route(parent: Known, settings: Traffic) -> Route:
    """A service without routes is its own backend."""
    return Route(
        match=HTTPMatch(),
        shares=(Share(destination=parent.target, weight=1),),
        timeout=settings.timeouts.request,
        backend_timeout=settings.retry.per_try_timeout if settings.retry else None,
        retry=settings.retry,
        sources=positions(parent.entry) + settings.sources,
    )


def _order(match: HTTPMatch, entry: ManifestEntry, rule: int, number: int) -> _Order:
    """The precedence of a match, smallest first (Gateway API v1.6, `HTTPRouteRule.matches`).

    `/x/` is the same prefix as `/x`, so that it is no longer than that.
    """
    path = match.path
    length = len(path.value.rstrip("/") if path.type is PathMatchType.PREFIX else path.value)
    return (
        _PATH_RANK[path.type],
        -length,
        match.method is None,
        -len(match.headers),
        -len(match.query),
        entry.introduced,
        entry.key.namespace,
        entry.key.name,
        rule,
        number,
    )


def _route(rule: HTTPRule, settings: Traffic, known: Directory) -> Route:
    """A rule, but for its matches. A backend of weight 0 gets nothing, so it is no backend."""
    per_try = settings.retry.per_try_timeout if settings.retry else None
    return Route(
        match=HTTPMatch(),
        filters=rule.filters,
        shares=tuple(_share(backend, known) for backend in rule.backends if backend.weight),
        timeout=settings.timeouts.request if rule.timeout is None else rule.timeout,
        backend_timeout=per_try if rule.backend_timeout is None else rule.backend_timeout,
        retry=settings.retry,
    )


def _name(route: HTTPRoute, rule: HTTPRule, index: int) -> str:
    """What statistics and logs call a rule."""
    return f"{route.key.namespace}/{route.key.name}/{rule.name or index}"


def _share(backend: Backend, known: Directory) -> Share:
    """A backend's part. What has no document (any more), another port or no HTTP answers 500."""
    item = known.known.get(backend.target)
    exists = (
        item is not None
        and item.service.protocol.is_http
        and backend.port in (None, item.service.port)
    )
    return Share(
        destination=backend.target if exists else None,
        weight=backend.weight,
        filters=backend.filters,
    )
