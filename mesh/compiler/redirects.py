"""Redirects as Envoy says them: Gateway API's `Location`, whatever port the request's Host has."""

from collections.abc import Iterator
from typing import Final

from mesh.compiler import paths
from mesh.compiler.generated import JSON
from mesh.compiler.view import VirtualService
from mesh.model.policy import PathMatch, ReplaceFullPath, ReplacePrefixMatch, RequestRedirect

_DEFAULT_PORT: Final = {"http": 80, "https": 443}
_RESPONSE: Final = {
    301: "MOVED_PERMANENTLY",
    302: "FOUND",
    303: "SEE_OTHER",
    307: "TEMPORARY_REDIRECT",
    308: "PERMANENT_REDIRECT",
}


def actions(
    redirect: RequestRedirect, service: VirtualService, matched: PathMatch
) -> Iterator[tuple[list[JSON], JSON]]:
    """RedirectActions in order, each with the header matchers that it needs; the last has none.

    Gateway API: without a port it is the scheme's own where a scheme is given, else the
    listener's, here the Service's; the scheme's own is left out of `Location`. Envoy keeps the
    port of a request's Host unless it is given another, so a host with a port needs its own.
    """
    action = {"response_code": _RESPONSE[redirect.status], **_path(redirect, matched)}
    if redirect.scheme is not None:
        action["scheme_redirect"] = redirect.scheme
    own = _DEFAULT_PORT[redirect.scheme or "http"]
    port = redirect.port or (own if redirect.scheme else service.port)
    if port != own:
        action["port_redirect"] = port
    if redirect.hostname is not None:
        action["host_redirect"] = redirect.hostname
    elif port == own:
        for host in service.hosts:
            yield [_authority(f"{host}:{service.port}")], action | {"host_redirect": host}
    yield [], action


def _path(redirect: RequestRedirect, matched: PathMatch) -> JSON:
    match redirect.path:
        case ReplaceFullPath(value):
            return {"path_redirect": value or "/"}
        case ReplacePrefixMatch():
            return {"regex_rewrite": paths.rewrite(redirect.path, matched)}
        case None:
            return {}


def _authority(value: str) -> JSON:
    return {"name": ":authority", "string_match": {"exact": value, "ignore_case": True}}
