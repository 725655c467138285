"""A valid document as a typed policy, and as canonical bytes whose SHA-256 is its digest.

The canonical form is the document's own fields as JSON with sorted keys, the namespace filled
in and what Kubernetes adds left out. Order, comments and spacing of the YAML are not in it.
"""

import hashlib
import io
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from mesh.documents.access import access_policy
from mesh.documents.fields import Object, duration_or, integer, items, optional_text, section, text
from mesh.documents.fields import texts as texts_of
from mesh.documents.routes import http_route
from mesh.documents.traffic import traffic_policy
from mesh.documents.values import Value
from mesh.errors import Corrupted
from mesh.model.identity import DEFAULT_NAMESPACE, DEFAULT_TRUST_DOMAIN, ServiceName
from mesh.model.policy import (
    Address,
    Default,
    ExternalService,
    InstanceSelector,
    Mesh,
    Policy,
    PolicyKey,
    Protocol,
    Service,
)

if TYPE_CHECKING:
    from mesh.documents.parser import Document

_METADATA = ("name", "namespace", "labels", "annotations")
_DEFAULT_PORT = 80
_MESH = Mesh(key=PolicyKey("Mesh", "", ""))


def canonical(document: "Document") -> bytes:
    """The canonical JSON (UTF-8) of a document that has no mistakes."""
    data = document.data
    given = section(data, "metadata")
    metadata: dict[str, Value] = {name: given[name] for name in _METADATA if given.get(name)}
    metadata.setdefault("namespace", DEFAULT_NAMESPACE)
    body = {
        "apiVersion": data["apiVersion"],
        "kind": data["kind"],
        "metadata": metadata,
        "spec": data["spec"],
    }
    return json.dumps(body, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def digest(canonical: bytes) -> str:
    """What names a policy's content: SHA-256 in hex."""
    return hashlib.sha256(canonical).hexdigest()


def policy_of(document: "Document") -> Policy:
    """The typed policy of a document that has no mistakes."""
    return _policy(document.data)


def policy_in(data: Object) -> Policy | None:
    """The policy in what is left of a document with mistakes; None if none can be made of it."""
    try:
        return _policy(data)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def decode(canonical: bytes, expected: str | None = None) -> Policy:
    """The policy in canonical bytes that come from a store or a cache.

    `expected` is the digest that the bytes must have, where the caller knows it.

    Raises:
        Corrupted: the bytes are damaged.
    """
    if expected is not None and digest(canonical) != expected:
        raise Corrupted(f"object {expected[:12]} is damaged: its digest differs")
    try:
        return _policy(json.loads(canonical))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Corrupted(f"a stored policy cannot be read: {error}") from error


def to_yaml(canonical: bytes) -> str:
    """A stored policy as a YAML document that reads back to the same bytes.

    Raises:
        Corrupted: the bytes are damaged.
    """
    try:
        data = json.loads(canonical)
    except ValueError as error:
        raise Corrupted(f"a stored policy cannot be read: {error}") from error
    from ruamel.yaml import YAML  # here: sidecars decode policies and need no YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    yaml.width = 100
    buffer = io.StringIO()
    yaml.dump(data, buffer)
    return buffer.getvalue()


def _policy(data: Object) -> Policy:
    kind, metadata = text(data, "kind"), section(data, "metadata")
    namespace = text(metadata, "namespace", DEFAULT_NAMESPACE)
    key = PolicyKey(kind, namespace, cast("str", metadata["name"]))
    return _DECODERS[kind](key, section(data, "spec"))


def _mesh(key: PolicyKey, spec: Object) -> Mesh:
    certificates = section(spec, "certificates")
    return Mesh(
        key=key,
        trust_domain=text(spec, "trustDomain", DEFAULT_TRUST_DOMAIN),
        access_default=Default(text(section(spec, "access"), "default", _MESH.access_default)),
        certificate_lifetime=duration_or(certificates, "lifetime", _MESH.certificate_lifetime),
        max_connection_duration=duration_or(
            certificates, "maxConnectionDuration", _MESH.max_connection_duration
        ),
    )


def _service(key: PolicyKey, spec: Object) -> Service:
    return Service(
        key=key,
        protocol=Protocol(text(spec, "protocol")),
        port=integer(spec, "port", _DEFAULT_PORT),
        instances=_instances(key, section(spec, "instances")),
        dependencies=_dependencies(key, spec) if "dependencies" in spec else None,
    )


def _instances(key: PolicyKey, data: Object) -> InstanceSelector | None:
    if not data:
        return None
    return InstanceSelector(
        service=ServiceName(
            text(data, "namespace", key.namespace), text(data, "service", key.name)
        ),
        meta=cast("dict[str, str]", data.get("meta") or {}),
        tags=frozenset(texts_of(data, "tags")),
        datacenter=optional_text(data, "datacenter"),
    )


def _dependencies(key: PolicyKey, spec: Object) -> tuple[ServiceName, ...]:
    names = []
    for item in cast("list[str | Object]", spec["dependencies"]):
        if isinstance(item, str):
            names.append(ServiceName(key.namespace, item))
        else:
            namespace = text(item, "namespace", key.namespace)
            names.append(ServiceName(namespace, text(item, "service")))
    return tuple(names)


def _external_service(key: PolicyKey, spec: Object) -> ExternalService:
    return ExternalService(
        key=key,
        protocol=Protocol(text(spec, "protocol")),
        port=integer(spec, "port", _DEFAULT_PORT),
        endpoints=tuple(
            Address(text(item, "address"), integer(item, "port"))
            for item in items(spec, "endpoints")
        ),
    )


_DECODERS: dict[str, Callable[[PolicyKey, Object], Policy]] = {
    "Mesh": _mesh,
    "Service": _service,
    "ExternalService": _external_service,
    "HTTPRoute": http_route,
    "TrafficPolicy": traffic_policy,
    "AccessPolicy": access_policy,
}
