"""The whole of a compiled view as a static bootstrap, for a real Envoy without its agent.

What Envoy would fetch over ADS is put in its place: endpoints into clusters, routes and access
rules into listeners, secrets beside them. Everything else stays as it was compiled.
"""

from typing import Any

from google.protobuf.json_format import MessageToDict

from mesh.compiler.assemble import MESSAGES, compile_view
from mesh.compiler.bootstrap import bootstrap
from mesh.compiler.view import View
from mesh.model.snapshot import ResourceType, Snapshot


def as_json(snapshot: Snapshot, kind: ResourceType) -> dict[str, dict[str, Any]]:
    """The resources of one type as Envoy gets them, in JSON, by name."""
    found = {}
    for name, resource in snapshot.of(kind).items():
        message = MESSAGES[kind]()
        message.ParseFromString(resource.body)
        found[name] = MessageToDict(message, preserving_proto_field_name=True)
    return found


def static(view: View) -> dict[str, Any]:
    """A bootstrap with everything of the view in it."""
    snapshot = compile_view(view)
    parts = {kind: as_json(snapshot, kind) for kind in ResourceType}
    clusters = [_cluster(each, parts) for each in parts[ResourceType.CLUSTER].values()]
    listeners = [_inlined(each, parts) for each in parts[ResourceType.LISTENER].values()]
    full = bootstrap(node_id="test", cluster="test", ads_socket="unused", admin_socket="unused")
    return {
        "static_resources": {
            "clusters": clusters,
            "listeners": listeners,
            "secrets": list(parts[ResourceType.SECRET].values()),
        },
        **{key: full[key] for key in ("overload_manager", "layered_runtime", "stats_config")},
    }


Parts = dict[ResourceType, dict[str, dict[str, Any]]]


def _cluster(cluster: dict[str, Any], parts: Parts) -> dict[str, Any]:
    made: dict[str, Any] = _inlined(cluster, parts)
    if "eds_cluster_config" in made:
        name = made.pop("eds_cluster_config")["service_name"]
        made |= {"type": "STATIC", "load_assignment": parts[ResourceType.ENDPOINTS][name]}
    return made


def _inlined(value: Any, parts: Parts) -> Any:
    """The JSON with what it names by ConfigSource in its place."""
    if isinstance(value, list):
        return [_inlined(each, parts) for each in value]
    if not isinstance(value, dict):
        return value
    made = {key: _inlined(each, parts) for key, each in value.items() if key != "sds_config"}
    if "rds" in made:
        routes = parts[ResourceType.ROUTE][made.pop("rds")["route_config_name"]]
        made["route_config"] = routes | {"validate_clusters": False}
    if "config_discovery" in made:
        del made["config_discovery"]
        made |= parts[ResourceType.EXTENSION][made["name"]]
    return made
