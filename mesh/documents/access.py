"""AccessPolicy: fields -> typed value."""

from mesh.documents.fields import Object, items, optional_text, text, texts
from mesh.model.policy import (
    AccessPathType,
    AccessPolicy,
    AccessRule,
    Action,
    Caller,
    Kind,
    Operation,
    PolicyKey,
    Target,
    ValueMatch,
)

# The Mesh document's own name is free, so a reference to it carries this one.
MESH_NAME = "mesh"


def access_policy(key: PolicyKey, spec: Object) -> AccessPolicy:
    """The policy in the `spec` of a valid document."""
    return AccessPolicy(
        key=key,
        targets=tuple(target(key, item) for item in items(spec, "targetRefs")),
        rules=tuple(_rule(key, item) for item in items(spec, "rules")),
    )


def target(key: PolicyKey, data: Object) -> Target:
    """What a policy's `targetRefs` item names: always in the policy's own namespace."""
    kind = Kind(text(data, "kind"))
    match kind:
        case Kind.MESH:
            return Target(kind, key.namespace, MESH_NAME)
        case Kind.NAMESPACE:
            return Target(kind, text(data, "name"), text(data, "name"))
        case Kind.SERVICE | Kind.EXTERNAL_SERVICE:
            return Target(kind, key.namespace, text(data, "name"))


def _rule(key: PolicyKey, data: Object) -> AccessRule:
    return AccessRule(
        name=text(data, "name"),
        action=Action(text(data, "action")),
        callers=tuple(
            Caller(
                namespace=text(item, "namespace", key.namespace),
                service=optional_text(item, "service"),
            )
            for item in items(data, "from")
        ),
        operations=tuple(_operation(item) for item in items(data, "to")),
    )


def _operation(data: Object) -> Operation:
    return Operation(
        methods=texts(data, "methods"),
        paths=tuple(_path(item) for item in items(data, "paths")),
        headers=tuple(
            ValueMatch(text(item, "name").lower(), text(item, "value"))
            for item in items(data, "headers")
        ),
    )


def _path(data: Object) -> tuple[AccessPathType, str]:
    name = next(iter(data))  # the schema allows exactly one
    return AccessPathType(name), text(data, name)
