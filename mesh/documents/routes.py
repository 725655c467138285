"""HTTPRoute: fields -> typed value, with Gateway API's defaults."""

from mesh.documents.fields import (
    Object,
    duration,
    integer,
    items,
    optional_integer,
    optional_text,
    section,
    text,
    texts,
)
from mesh.model.policy import (
    Backend,
    Filters,
    HeaderModifier,
    HTTPMatch,
    HTTPRoute,
    HTTPRule,
    Kind,
    ParentRef,
    PathMatch,
    PathMatchType,
    PathModifier,
    PolicyKey,
    ReplaceFullPath,
    ReplacePrefixMatch,
    RequestRedirect,
    Target,
    URLRewrite,
    ValueMatch,
    ValueMatchType,
)


def http_route(key: PolicyKey, spec: Object) -> HTTPRoute:
    """The route in the `spec` of a valid document; no rules means one rule for everything."""
    return HTTPRoute(
        key=key,
        parents=tuple(
            ParentRef(_target(key, item), optional_integer(item, "port"))
            for item in items(spec, "parentRefs")
        ),
        rules=tuple(_rule(key, item) for item in items(spec, "rules")) or (HTTPRule(),),
        hostnames=texts(spec, "hostnames"),
    )


def _target(key: PolicyKey, data: Object) -> Target:
    """A reference without a namespace means the route's own (Gateway API)."""
    namespace = text(data, "namespace", key.namespace)
    return Target(Kind(text(data, "kind", Kind.SERVICE)), namespace, text(data, "name"))


def _rule(key: PolicyKey, data: Object) -> HTTPRule:
    timeouts = section(data, "timeouts")
    return HTTPRule(
        name=optional_text(data, "name"),
        matches=tuple(_match(item) for item in items(data, "matches")) or (HTTPMatch(),),
        filters=_filters(items(data, "filters")),
        backends=tuple(
            Backend(
                target=_target(key, item),
                port=optional_integer(item, "port"),
                weight=integer(item, "weight", 1),
                filters=_filters(items(item, "filters")),
            )
            for item in items(data, "backendRefs")
        ),
        timeout=duration(timeouts, "request"),
        backend_timeout=duration(timeouts, "backendRequest"),
    )


def _match(data: Object) -> HTTPMatch:
    path = section(data, "path")
    return HTTPMatch(
        path=PathMatch(
            PathMatchType(text(path, "type", PathMatchType.PREFIX)), text(path, "value", "/")
        ),
        headers=tuple(_value(item, lower=True) for item in items(data, "headers")),
        query=tuple(_value(item, lower=False) for item in items(data, "queryParams")),
        method=optional_text(data, "method"),
    )


def _value(data: Object, *, lower: bool) -> ValueMatch:
    name = text(data, "name")
    kind = ValueMatchType(text(data, "type", ValueMatchType.EXACT))
    return ValueMatch(name.lower() if lower else name, text(data, "value"), kind)


def _filters(filters: list[Object]) -> Filters:
    """Each type is there at most once; `rules` has seen to it."""
    given = {text(item, "type"): item for item in filters}
    request, response = given.get("RequestHeaderModifier"), given.get("ResponseHeaderModifier")
    redirect, rewrite = given.get("RequestRedirect"), given.get("URLRewrite")
    return Filters(
        request_headers=_modifier(section(request, "requestHeaderModifier")) if request else None,
        response_headers=(
            _modifier(section(response, "responseHeaderModifier")) if response else None
        ),
        redirect=_redirect(section(redirect, "requestRedirect")) if redirect else None,
        rewrite=_rewrite(section(rewrite, "urlRewrite")) if rewrite else None,
    )


def _modifier(data: Object) -> HeaderModifier:
    return HeaderModifier(
        set=tuple((text(item, "name"), text(item, "value")) for item in items(data, "set")),
        add=tuple((text(item, "name"), text(item, "value")) for item in items(data, "add")),
        remove=texts(data, "remove"),
    )


def _redirect(data: Object) -> RequestRedirect:
    return RequestRedirect(
        scheme=optional_text(data, "scheme"),
        hostname=optional_text(data, "hostname"),
        path=_path(section(data, "path")),
        port=optional_integer(data, "port"),
        status=integer(data, "statusCode", 302),
    )


def _rewrite(data: Object) -> URLRewrite:
    return URLRewrite(hostname=optional_text(data, "hostname"), path=_path(section(data, "path")))


def _path(data: Object) -> PathModifier | None:
    match text(data, "type"):
        case "ReplaceFullPath":
            return ReplaceFullPath(text(data, "replaceFullPath"))
        case "ReplacePrefixMatch":
            return ReplacePrefixMatch(text(data, "replacePrefixMatch"))
        case _:
            return None
