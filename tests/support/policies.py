"""Policies written short, and the set of them that a compiler gets."""

from datetime import timedelta
from typing import Any

from mesh.model.identity import ServiceName
from mesh.model.policy import (
    AccessPolicy,
    AccessRule,
    Action,
    Address,
    Backend,
    Caller,
    Default,
    ExternalService,
    HTTPRoute,
    HTTPRule,
    InstanceSelector,
    Kind,
    Mesh,
    ParentRef,
    Policy,
    PolicyKey,
    Protocol,
    Service,
    Target,
    TrafficPolicy,
)
from mesh.model.revision import Applied, ManifestEntry, Policies


def name(text: str) -> ServiceName:
    """`api`, or `shop/api`."""
    namespace, _, last = text.rpartition("/")
    return ServiceName(namespace or "default", last)


def key(kind: str, text: str) -> PolicyKey:
    own = name(text)
    return PolicyKey(kind, own.namespace, own.name)


def target(text: str) -> Target:
    """`api`, `shop/api`, `external:db`, `namespace:shop` or `mesh:`."""
    prefix, _, rest = text.rpartition(":")
    if prefix == "mesh":
        return Target(Kind.MESH, "default", "default")
    if prefix == "namespace":
        return Target(Kind.NAMESPACE, rest, rest)
    own = name(rest)
    kind = Kind.EXTERNAL_SERVICE if prefix == "external" else Kind.SERVICE
    return Target(kind, own.namespace, own.name)


def mesh(default: Default = Default.DENY, **fields: Any) -> Mesh:
    return Mesh(key=key("Mesh", "default"), access_default=default, **fields)


def service(
    text: str, protocol: Protocol = Protocol.HTTP, port: int = 80, **fields: Any
) -> Service:
    return Service(key=key("Service", text), protocol=protocol, port=port, **fields)


def view_of(text: str, base: str, **meta: str) -> Service:
    """A Service that selects some of another one's instances."""
    return service(text, instances=InstanceSelector(service=name(base), meta=meta))


def external(
    text: str, *endpoints: Address, protocol: Protocol = Protocol.HTTP, port: int = 80
) -> ExternalService:
    return ExternalService(
        key=key("ExternalService", text),
        protocol=protocol,
        port=port,
        endpoints=endpoints or (Address("192.0.2.1", port),),
    )


def caller(text: str) -> Caller:
    """`web`, `shop/web`, or `shop/*`."""
    own = name(text)
    return Caller(namespace=own.namespace, service=None if own.name == "*" else own.name)


def rule(action: Action, *callers: str, called: str = "", **fields: Any) -> AccessRule:
    return AccessRule(
        name=called or f"{action}-{len(callers)}",
        action=action,
        callers=tuple(caller(each) for each in callers),
        **fields,
    )


def access(text: str, on: str, *rules: AccessRule) -> AccessPolicy:
    return AccessPolicy(key=key("AccessPolicy", text), targets=(target(on),), rules=rules)


def allow(on: str, *callers: str) -> AccessPolicy:
    """One rule that lets callers do everything; the policy is named after its target."""
    own = name(on.rpartition(":")[2] or "mesh")
    text = f"{own.namespace}/{on.replace(':', '-').replace('/', '-')}"
    return access(text, on, rule(Action.ALLOW, *callers, called="allowed"))


def backend(text: str, weight: int = 1, port: int | None = None, **fields: Any) -> Backend:
    return Backend(target=target(text), port=port, weight=weight, **fields)


def route(text: str, parent: str, *rules: HTTPRule, port: int | None = None) -> HTTPRoute:
    parents = (ParentRef(target(parent), port),)
    return HTTPRoute(key=key("HTTPRoute", text), parents=parents, rules=rules)


def traffic(text: str, on: str, **fields: Any) -> TrafficPolicy:
    return TrafficPolicy(key=key("TrafficPolicy", text), targets=(target(on),), **fields)


def milliseconds(number: int) -> timedelta:
    return timedelta(milliseconds=number)


def policies(*items: Policy) -> Policies:
    """The items as revision after revision introduced them, each in a file of its own."""
    return {
        item.key: Applied(policy=item, entry=_entry(item, number))
        for number, item in enumerate(items, start=1)
    }


def _entry(item: Policy, number: int) -> ManifestEntry:
    return ManifestEntry(
        key=item.key,
        digest=f"{number:064x}",
        source="main",
        file=f"{item.key.kind.lower()}-{item.key.namespace}-{item.key.name}.yaml",
        line=1,
        introduced=number,
    )
