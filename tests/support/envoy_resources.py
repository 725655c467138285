"""Small xDS resources, written as Envoy's JSON, for tests that run a real Envoy."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import extension_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2,
)
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2, tls_pb2
from google.protobuf import json_format
from google.protobuf.message import Message

from mesh.model.snapshot import Resource, ResourceType, Snapshot

ADS = {"ads": {}, "resource_api_version": "V3"}
Reference = tuple[ResourceType, str]

# Imported for the descriptors of the messages inside `Any`.
_USED = (router_pb2, rbac_pb2, http_connection_manager_pb2, tcp_proxy_pb2, tls_pb2)


def resource(
    kind: ResourceType, name: str, message: Message, names: Iterable[Reference] = ()
) -> Resource:
    body = message.SerializeToString(deterministic=True)
    version = hashlib.sha256(body).hexdigest()
    return Resource(type=kind, name=name, version=version, body=body, names=tuple(names))


def snapshot(resources: Iterable[Resource], revision: int = 1) -> Snapshot:
    by_type: dict[ResourceType, dict[str, Resource]] = {}
    for item in resources:
        by_type.setdefault(item.type, {})[item.name] = item
    return Snapshot(revision=revision, resources=by_type)


def cluster(name: str, *, secret: str | None = None, **fields: Any) -> Resource:
    names: list[Reference] = [(ResourceType.ENDPOINTS, name)]
    tls: dict[str, Any] = {}
    if secret is not None:
        names.append((ResourceType.SECRET, secret))
        tls["transport_socket"] = _tls("UpstreamTlsContext", secret)
    message = json_format.ParseDict(
        {
            "name": name,
            "type": "EDS",
            "connect_timeout": "1s",
            "eds_cluster_config": {"eds_config": ADS | {"initial_fetch_timeout": "5s"}},
        }
        | tls
        | fields,
        cluster_pb2.Cluster(),
    )
    return resource(ResourceType.CLUSTER, name, message, names)


def bad_cluster(name: str) -> Resource:
    """A cluster that only Envoy refuses: its load balancer is none."""
    balancer = {"name": "none", "typed_config": _any("filters.http.router", "Router")}
    policies = [{"typed_extension_config": balancer}]
    return cluster(name, load_balancing_policy={"policies": policies})


def endpoints(cluster: str, ports: Sequence[int]) -> Resource:
    document = {
        "cluster_name": cluster,
        "endpoints": [{"lb_endpoints": [{"endpoint": _address(port)} for port in ports]}],
    }
    message = json_format.ParseDict(document, endpoint_pb2.ClusterLoadAssignment())
    return resource(ResourceType.ENDPOINTS, cluster, message)


def route(name: str, cluster: str, **fields: Any) -> Resource:
    """Everything to `cluster`; answers say so in `x-cluster`."""
    document = {
        "name": name,
        "response_headers_to_add": [{"header": {"key": "x-cluster", "value": cluster}}],
        "virtual_hosts": [
            {
                "name": "all",
                "domains": ["*"],
                "routes": [{"match": {"prefix": "/"}, "route": {"cluster": cluster} | fields}],
            }
        ],
    }
    message = json_format.ParseDict(document, route_pb2.RouteConfiguration())
    return resource(ResourceType.ROUTE, name, message, [(ResourceType.CLUSTER, cluster)])


def http_listener(
    name: str,
    port: int,
    route: str,
    *,
    extension: str | None = None,
    secret: str | None = None,
    **fields: Any,
) -> Resource:
    names: list[Reference] = [(ResourceType.ROUTE, route)]
    filters: list[dict[str, Any]] = [
        {"name": "router", "typed_config": _any("filters.http.router", "Router")}
    ]
    if extension is not None:
        names.append((ResourceType.EXTENSION, extension))
        url = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"
        filters.insert(
            0,
            {"name": extension, "config_discovery": {"config_source": ADS, "type_urls": [url]}},
        )
    chain: dict[str, Any] = {}
    if secret is not None:
        names.append((ResourceType.SECRET, secret))
        chain["transport_socket"] = _tls("DownstreamTlsContext", secret)
    manager = _any("filters.network.http_connection_manager", "HttpConnectionManager") | {
        "stat_prefix": "outbound",
        "rds": {"route_config_name": route, "config_source": ADS},
        "http_filters": filters,
    }
    chain["filters"] = [{"name": "hcm", "typed_config": manager | fields}]
    return _listener(name, port, chain, names)


def tcp_listener(name: str, port: int, cluster: str) -> Resource:
    proxy = _any("filters.network.tcp_proxy", "TcpProxy") | {
        "stat_prefix": name,
        "cluster": cluster,
    }
    chain = {"filters": [{"name": "tcp", "typed_config": proxy}]}
    return _listener(name, port, chain, [(ResourceType.CLUSTER, cluster)])


def access(name: str, *, allow: bool) -> Resource:
    """An extension that lets everything or nothing pass."""
    rules = {"everything": {"permissions": [{"any": True}], "principals": [{"any": True}]}}
    config = {"action": "ALLOW", "policies": rules if allow else {}}
    document = {"name": name, "typed_config": _any("filters.http.rbac", "RBAC") | {"rules": config}}
    message = json_format.ParseDict(document, extension_pb2.TypedExtensionConfig())
    return resource(ResourceType.EXTENSION, name, message)


def certificate(name: str, chain_pem: bytes, key_pem: bytes) -> Resource:
    message = secret_pb2.Secret(name=name)
    message.tls_certificate.certificate_chain.inline_bytes = chain_pem
    message.tls_certificate.private_key.inline_bytes = key_pem
    return resource(ResourceType.SECRET, name, message)


def _listener(
    name: str, port: int, chain: Mapping[str, Any], names: Iterable[Reference]
) -> Resource:
    document = _address(port) | {
        "name": name,
        "enable_reuse_port": False,
        "filter_chains": [chain],
    }
    return resource(
        ResourceType.LISTENER, name, json_format.ParseDict(document, listener_pb2.Listener()), names
    )


def _address(port: int) -> dict[str, Any]:
    return {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}


def _any(package: str, message: str) -> dict[str, Any]:
    return {"@type": f"type.googleapis.com/envoy.extensions.{package}.v3.{message}"}


def _tls(context: str, secret: str) -> dict[str, Any]:
    url = f"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{context}"
    certificates = [{"name": secret, "sds_config": ADS | {"initial_fetch_timeout": "5s"}}]
    tls = {"@type": url, "common_tls_context": {"tls_certificate_sds_secret_configs": certificates}}
    return {"name": "envoy.transport_sockets.tls", "typed_config": tls}
