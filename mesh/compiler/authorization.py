"""Access rules as Envoy's RBAC: one list of named refusals, decided for each request.

A rule reads as a condition: one of its callers, and one of its operations. Deny beats allow and
the mesh's default decides the rest, so everything is one RBAC of action DENY: each deny rule is a
policy of its own, and so is the default, as "none of the allow rules". Every refusal then has a
name in logs and statistics (an RBAC of action ALLOW says "none" for its default, envoy#36346).
Conditions are Principals throughout, since only these can be negated as a whole.

These are extension configurations (ECDS): a change holds for the next request on every
connection and closes none. What Envoy has not got refuses everything.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from mesh.compiler.generated import JSON, Generated
from mesh.compiler.view import Inbound, View
from mesh.model.identity import Identity, ServiceName
from mesh.model.policy import (
    AccessPathType,
    AccessPolicy,
    AccessRule,
    Action,
    Caller,
    Default,
    Operation,
    Target,
    ValueMatch,
    ValueMatchType,
)
from mesh.model.snapshot import ResourceType

HTTP_ACCESS: Final = "access"
"""The extension configuration that decides HTTP requests."""

TCP_ACCESS: Final = "access-tcp"
"""The extension configuration that decides TCP connections."""

EXTERNAL_ACCESS: Final = "external-access"
"""The outbound filter that decides calls of ExternalServices; off unless a route turns it on."""

HTTP_RBAC: Final = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"
NETWORK_RBAC: Final = "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC"
ROUTE_RBAC: Final = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute"

_URI_SAN: Final = "type.googleapis.com/envoy.extensions.matching.common_inputs.ssl.v3.UriSanInput"
_ACTION: Final = "type.googleapis.com/envoy.config.rbac.v3.Action"

# Names of refusals that no document wrote; a rule's own name has two slashes.
DEFAULT_DENY: Final = "default-deny"
NOT_A_MEMBER: Final = "not-a-member"
PATH_PARAMETERS: Final = "path-parameters"

# An RFC 1123 label, as far as it matters here: no character that means something in a URI.
_LABEL: Final = "[a-z0-9-]+"

_DEEPEST: Final = 200

_ANYTHING: Final[dict[str, Any]] = {"any": True}


def inbound(view: View) -> list[Generated]:
    """The extension configuration that protects the application; none without one."""
    if view.inbound is None:
        return []
    return [
        _http(view, view.inbound) if view.inbound.protocol.is_http else _tcp(view, view.inbound)
    ]


def outbound(view: View, target: Target) -> JSON | None:
    """The per-route configuration that lets this caller do to an ExternalService what its access
    policies say; None for a Service, which decides by itself.

    The caller is known beforehand, so only operations are left to look at. Paths are those that
    the application asked for, before a route rewrites them.
    """
    access = view.outbound_access.get(target)
    if access is None:
        return None
    caller = view.placement.service
    rules = [
        (policy, rule) for policy, _ in access for rule in policy.rules if rule.concerns(caller)
    ]
    conditions = [(_name(policy, rule), rule.action, _operations(rule)) for policy, rule in rules]
    body = _rbac(conditions, view.access_default, _paths_guard(rule for _, rule in rules))
    if not body["rules"]["policies"] and "shadow_rules" not in body:
        return None
    return {"@type": ROUTE_RBAC, "rbac": body}


def members(trust_domain: str) -> JSON:
    """The network filter that lets exactly one identity pass, and one that the mesh gives out.

    Envoy matches a rule's caller with any of a certificate's URIs, so that another trust domain's
    CA could slip in one of ours; it takes `/ns/a/svc/../svc/b` and `?query` for identities, too
    (SPIFFE-ID sections 2.1 and 2.2). A certificate holds for its connection: so does this answer,
    which costs a request nothing.
    """
    uri = f"spiffe://{re.escape(trust_domain)}/ns/{_LABEL}/svc/{_LABEL}"
    member = {
        # All URIs of the certificate, joined by commas.
        "input": {"name": "uris", "typed_config": {"@type": _URI_SAN}},
        "value_match": {"safe_regex": {"google_re2": {}, "regex": uri}},
    }
    allow = {"@type": _ACTION, "name": "member", "action": "ALLOW"}
    on_match = {"action": {"name": "member", "typed_config": allow}}
    rule = {"predicate": {"single_predicate": member}, "on_match": on_match}
    return {
        "@type": NETWORK_RBAC,
        "stat_prefix": f"tcp.{NOT_A_MEMBER}.",
        "matcher": {"matcher_list": {"matchers": [rule]}},
    }


def _http(view: View, inbound: Inbound) -> Generated:
    rules = list(_rules(inbound))
    conditions = [
        (
            _name(policy, rule),
            rule.action,
            _all([_callers(view.trust_domain, rule), _operations(rule)]),
        )
        for policy, rule in rules
    ]
    guards = _paths_guard(rule for _, rule in rules)
    body = _rbac(conditions, inbound.access_default, guards)
    return _extension(HTTP_ACCESS, {"@type": HTTP_RBAC, **body}, inbound)


def _tcp(view: View, inbound: Inbound) -> Generated:
    """Bytes have no operations: an allow rule that asks for some never holds, any other always."""
    conditions = [
        (_name(policy, rule), rule.action, _callers(view.trust_domain, rule))
        for policy, rule in _rules(inbound)
        if not (rule.operations and rule.action is Action.ALLOW)
    ]
    body = _rbac(conditions, inbound.access_default, {})
    body.pop("track_per_rule_stats")  # HTTP only
    return _extension(
        TCP_ACCESS, {"@type": NETWORK_RBAC, "stat_prefix": "tcp.inbound.", **body}, inbound
    )


def _extension(name: str, body: JSON, inbound: Inbound) -> Generated:
    return Generated(
        type=ResourceType.EXTENSION,
        name=name,
        json={"name": name, "typed_config": body},
        sources=tuple(position for _, position in inbound.access) + inbound.sources,
    )


def _rbac(
    conditions: list[tuple[str, Action, dict[str, Any]]],
    default: Default,
    guards: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """The refusals, and what audit rules record beside them."""
    refused = dict(guards)
    refused |= {name: which for name, action, which in conditions if action is Action.DENY}
    if default is Default.DENY:
        allowed = [which for _, action, which in conditions if action is Action.ALLOW]
        refused[DEFAULT_DENY] = {"not_id": _any(allowed)} if allowed else _ANYTHING
    audited = {name: which for name, action, which in conditions if action is Action.AUDIT}
    body: dict[str, Any] = {
        "rules": {"action": "DENY", "policies": _policies(refused)},
        "track_per_rule_stats": True,
    }
    if audited:
        body["shadow_rules"] = {"action": "ALLOW", "policies": _policies(audited)}
        body["shadow_rules_stat_prefix"] = "audit."
    return body


def _policies(conditions: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        name: {"permissions": [_ANYTHING], "principals": [which]}
        for name, which in sorted(conditions.items())
    }


def _rules(inbound: Inbound) -> Iterator[tuple[AccessPolicy, AccessRule]]:
    return ((policy, rule) for policy, _ in inbound.access for rule in policy.rules)


def _name(policy: AccessPolicy, rule: AccessRule) -> str:
    return f"{policy.key.namespace}/{policy.key.name}/{rule.name}"


def _callers(trust_domain: str, rule: AccessRule) -> dict[str, Any]:
    """One of the rule's callers, as the certificate says; with none named, anyone of the domain."""
    if not rule.callers:
        return _identity({"prefix": f"spiffe://{trust_domain}/"})
    return _any([_caller(trust_domain, caller) for caller in rule.callers])


def _caller(trust_domain: str, caller: Caller) -> dict[str, Any]:
    if caller.service is None:
        # No name of a namespace holds a slash, so that no other namespace has this prefix.
        return _identity({"prefix": f"spiffe://{trust_domain}/ns/{caller.namespace}/svc/"})
    service = ServiceName(caller.namespace, caller.service)
    return _identity({"exact": Identity(trust_domain, service).uri})


def _identity(matcher: dict[str, Any]) -> dict[str, Any]:
    return {"authenticated": {"principal_name": matcher}}


def _operations(rule: AccessRule) -> dict[str, Any]:
    found = [_operation(operation, rule.action) for operation in rule.operations]
    return _any(found or [_ANYTHING])


def _operation(operation: Operation, action: Action) -> dict[str, Any]:
    parts: list[dict[str, Any]] = []
    if operation.methods:
        parts.append(_any([_header(":method", {"exact": m}) for m in operation.methods]))
    if operation.paths:
        parts.append(_any([each for kind, value in operation.paths for each in _path(kind, value)]))
    for header in operation.headers:
        parts.append(_value(header))
        if action is Action.ALLOW:
            parts += _alone(header)
    return _all(parts)


def _path(kind: AccessPathType, value: str) -> list[dict[str, Any]]:
    """The path without its query, after normalization. A prefix is by path element."""
    match kind:
        case AccessPathType.EXACT:
            return [_url_path({"exact": value})]
        case AccessPathType.REGEX:
            return [_url_path(_regex(value))]
        case AccessPathType.PREFIX:
            element = value.rstrip("/")
            whole = [_url_path({"exact": element})] if element else []
            return [*whole, _url_path({"prefix": f"{element}/"})]


def _paths_guard(rules: Iterable[AccessRule]) -> dict[str, dict[str, Any]]:
    """Where a rule names a path, path parameters are refused: `/public/..%3b/admin` is another
    path for a backend that drops them after decoding, and Envoy normalizes neither form.
    """
    if not any(operation.paths for rule in rules for operation in rule.operations):
        return {}
    return {PATH_PARAMETERS: _url_path(_regex("(?s).*(?:;|%3[bB]).*"))}


def _url_path(matcher: dict[str, Any]) -> dict[str, Any]:
    return {"url_path": {"path": matcher}}


def _value(header: ValueMatch) -> dict[str, Any]:
    """Holds where one of the header's lines does."""
    name = ":authority" if header.name == "host" else header.name
    match header.type:
        case ValueMatchType.EXACT:
            return _header(name, {"exact": header.value})
        case ValueMatchType.REGEX:
            return _header(name, _regex(header.value))


def _alone(header: ValueMatch) -> list[dict[str, Any]]:
    """That no line says something else beside it, for Envoy looks at each by itself. Envoy takes
    one Host, and RE2 a thousand levels.
    """
    if header.name == "host" or len(header.value) > _DEEPEST:
        return []
    match header.type:
        case ValueMatchType.EXACT:
            return [{"not_id": _header(header.name, _regex(_other_than(header.value)))}]
        case ValueMatchType.REGEX:  # no document says so yet
            return []


def _other_than(literal: str) -> str:
    """A pattern of every text but one: it differs at some character, ends before, or goes on."""
    pattern = ".+"
    for letter in reversed(literal):
        pattern = f"(?:[^{re.escape(letter)}].*|{re.escape(letter)}{pattern})?"
    return f"(?s){pattern}"


def _header(name: str, matcher: dict[str, Any]) -> dict[str, Any]:
    return {"header": {"name": name, "string_match": matcher}}


def _regex(pattern: str) -> dict[str, Any]:
    return {"safe_regex": {"regex": pattern}}


def _any(conditions: list[dict[str, Any]]) -> dict[str, Any]:
    return conditions[0] if len(conditions) == 1 else {"or_ids": {"ids": conditions}}


def _all(conditions: list[dict[str, Any]]) -> dict[str, Any]:
    """All of them; those that always hold are left out."""
    asked = [each for each in conditions if each != _ANYTHING]
    if not asked:
        return _ANYTHING
    return asked[0] if len(asked) == 1 else {"and_ids": {"ids": asked}}
