"""Compiled views behind one real Envoy, without its agent: what routes and clusters do.

Each view gets a listener of its own; its endpoints become static, and mutual TLS and HTTP/2
between sidecars are left out, so that the applications of `tests.support.echo` answer directly.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mesh.compiler import bootstrap as compiled
from mesh.compiler import clusters, routes
from mesh.compiler.view import View
from tests.support import envoy

_HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3"
_ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def static_clusters(view: View) -> list[dict[str, Any]]:
    """The view's clusters with their endpoints in them, in plain HTTP/1.1."""
    assignments = {each.name: each.json for each in clusters.endpoints(view)}
    return [
        _plain(dict(each.json), assignments.get(each.name)) for each in clusters.clusters(view)
    ]


def _plain(cluster: dict[str, Any], assignment: Mapping[str, Any] | None) -> dict[str, Any]:
    if assignment is None:
        return cluster
    for name in ("transport_socket", "eds_cluster_config"):
        cluster.pop(name, None)
    options = cluster["typed_extension_protocol_options"][_OPTIONS]
    plain = options | {"explicit_http_config": {"http_protocol_options": {}}}
    return cluster | {
        "type": "STATIC",
        "load_assignment": assignment,
        "typed_extension_protocol_options": {_OPTIONS: plain},
    }


def listener(name: str, route_configuration: Mapping[str, Any]) -> dict[str, Any]:
    """A listener on a free port of 127.0.0.1 with its routes inside."""
    manager = {
        "@type": f"{_HCM}.HttpConnectionManager",
        "stat_prefix": name,
        "codec_type": "AUTO",
        "route_config": {**route_configuration, "validate_clusters": False},
        "use_remote_address": True,
        "internal_address_config": {"cidr_ranges": []},
        "normalize_path": True,
        "merge_slashes": True,
        "stream_idle_timeout": "0s",
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": _ROUTER, "suppress_envoy_headers": True},
            }
        ],
    }
    return {
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [
            {"filters": [{"name": "http", "typed_config": manager}]},
        ],
    }


def bootstrap(views: Mapping[str, View]) -> dict[str, Any]:
    """One Envoy for all `views`: a listener of each one's name, clusters prefixed with it."""
    listeners: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for name, view in views.items():
        part = {
            "listeners": [listener(name, routes.outbound(view).json)],
            "clusters": static_clusters(view),
        }
        text = json.dumps(part)
        for kind in ("service", "external"):
            text = text.replace(f'"{kind}/', f'"{name}/{kind}/')
        part = json.loads(text)
        listeners += part["listeners"]
        found += part["clusters"]
    own = compiled.bootstrap(node_id="test", cluster="test", ads_socket="x", admin_socket="x")
    return {
        "layered_runtime": own["layered_runtime"],
        "static_resources": {"listeners": listeners, "clusters": found},
    }


@contextmanager
def running(views: Mapping[str, View]) -> Iterator[envoy.RunningEnvoy]:
    """Serve all views until the block ends."""
    with envoy.running(bootstrap(views)) as running_envoy:
        yield running_envoy
