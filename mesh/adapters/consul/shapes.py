"""Registrations and answers of Consul as endpoints and back.

An instance is a service of the local agent: name = service, address and port of the inbound
listener, meta `mesh-namespace`, `mesh-id` and `mesh-health` beside the user's, and the tag
`mesh-namespace=<namespace>`, because the catalog lists names with their tags only. Its TTL check
passes while the instance is healthy. Critical with healthy meta is an expired TTL: the sidecar is
silent. Health is in the meta because Consul spreads a changed meta at once, but the new output of
a check that is critical already only after five minutes (`check_update_interval`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import structlog

from mesh.errors import InputError
from mesh.model.catalog import Endpoint, Health, is_reachable
from mesh.model.identity import ServiceName

_LOG = structlog.get_logger(__name__)

_META_NAMESPACE = "mesh-namespace"
_META_ID = "mesh-id"
_META_HEALTH = "mesh-health"
_OUR_META = frozenset({_META_NAMESPACE, _META_ID, _META_HEALTH})
_TAG = _META_NAMESPACE + "="
_NODE_CHECK = "serfHealth"
_CRITICAL = "critical"
_FORGET_AFTER = "10m"


@dataclass(frozen=True, slots=True)
class Node:
    """A host as Consul knows it. A catalog that was built anew has it with another `created`
    (Consul's index at that time) or `id`.
    """

    name: str
    id: str
    created: str


@dataclass(frozen=True, slots=True)
class Instance:
    """A sidecar's registration; `is_silent`: the TTL of its check ran out, or its host is gone."""

    endpoint: Endpoint
    node: Node
    is_silent: bool


def definition(endpoint: Endpoint, ttl: timedelta) -> dict[str, object]:
    """The body of `/v1/agent/service/register`.

    Raises:
        InputError: a key of the meta data is the mesh's own.
    """
    taken = sorted(_OUR_META & endpoint.meta.keys())
    if taken:
        raise InputError(f'meta key "{taken[0]}" is the mesh\'s own', "choose another key")
    is_healthy = endpoint.health is not Health.UNHEALTHY
    return {
        "Name": endpoint.service.name,
        "ID": endpoint.id,
        "Address": endpoint.address,
        "Port": endpoint.port,
        "Tags": [_TAG + endpoint.service.namespace, *sorted(endpoint.tags)],
        "Meta": {
            **endpoint.meta,
            _META_NAMESPACE: endpoint.service.namespace,
            _META_ID: endpoint.id,
            _META_HEALTH: (Health.HEALTHY if is_healthy else Health.UNHEALTHY).value,
        },
        "Checks": [
            {
                "CheckID": check_id(endpoint.id),
                "Name": "mesh sidecar",
                "TTL": f"{ttl.total_seconds():g}s",
                "Status": "passing" if is_healthy else _CRITICAL,
                "DeregisterCriticalServiceAfter": _FORGET_AFTER,
            }
        ],
    }


def check_id(id: str) -> str:
    """The TTL check of an instance."""
    return f"mesh:{id}"


def instance(entry: object) -> Instance | None:
    """An instance of an entry of `/v1/health/service`; None: no sidecar registered it, or it says
    no IP address, which Envoys would refuse the whole service for.
    """
    parts = _mapping(entry)
    node, service = _mapping(parts.get("Node")), _mapping(parts.get("Service"))
    meta = {str(key): str(text) for key, text in _mapping(service.get("Meta")).items()}
    port = service.get("Port")
    if _META_NAMESPACE not in meta or _META_ID not in meta or not isinstance(port, int):
        return None
    address = str(service.get("Address") or node.get("Address"))
    if not is_reachable(address, port):
        _LOG.warning("an instance has no IP address", id=meta[_META_ID], address=address, port=port)
        return None
    failing = {
        str(check.get("CheckID"))
        for check in map(_mapping, _list(parts.get("Checks")))
        if check.get("Status") == _CRITICAL
    }
    own = {check_id(meta[_META_ID]), _NODE_CHECK}
    is_silent = bool(failing & own)
    health = Health.DEGRADED if is_silent else Health.HEALTHY
    if failing - own or meta.get(_META_HEALTH) == Health.UNHEALTHY.value:
        health = Health.UNHEALTHY
        is_silent = _NODE_CHECK in failing
    endpoint = Endpoint(
        id=meta[_META_ID],
        service=ServiceName(meta[_META_NAMESPACE], str(service.get("Service"))),
        address=address,
        port=port,
        meta={key: text for key, text in meta.items() if key not in _OUR_META},
        tags=frozenset(
            tag for tag in map(str, _list(service.get("Tags"))) if not tag.startswith(_TAG)
        ),
        datacenter=str(node.get("Datacenter")),
        health=health,
    )
    return Instance(endpoint, _node(node), is_silent)


def instances(answer: object) -> tuple[Instance, ...]:
    """The sidecars' registrations in an answer of `/v1/health/service/<name>`."""
    return tuple(one for one in map(instance, _list(answer)) if one is not None)


def service_names(answer: object) -> frozenset[ServiceName]:
    """The sidecars' services in `/v1/catalog/services`: names with the tags of all instances."""
    return frozenset(
        ServiceName(tag.removeprefix(_TAG), name)
        for name, tags in _mapping(answer).items()
        for tag in map(str, _list(tags))
        if tag.startswith(_TAG)
    )


def node(answer: object) -> Node | None:
    """The node of an answer of `/v1/catalog/node/<name>`; None: it is not in the catalog."""
    found = _mapping(answer).get("Node")
    return None if found is None else _node(_mapping(found))


def _node(found: Mapping[str, object]) -> Node:
    return Node(str(found.get("Node")), str(found.get("ID")), str(found.get("CreateIndex")))


def service_ids(answer: object) -> frozenset[str]:
    """The ids in an answer of `/v1/agent/services`."""
    return frozenset(_mapping(answer))


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
