"""Clusters and their endpoints: how each destination, and the application, is reached."""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import partial
from typing import Final

from mesh.compiler.balancing import balancer, ejection, load_report
from mesh.compiler.durations import spread, text
from mesh.compiler.generated import (
    ADS,
    APP_CLUSTER,
    JSON,
    PEERS_SECRET,
    SVID_SECRET,
    Generated,
    cluster_name,
)
from mesh.compiler.memory import Memory
from mesh.compiler.view import Destination, Inbound, View
from mesh.diagnostics import Position
from mesh.model.catalog import Endpoint, Health
from mesh.model.policy import Address, Algorithm, Protocol, Retry, Target
from mesh.model.snapshot import ResourceType

_CONNECT: Final = timedelta(seconds=1)
_IDLE: Final = timedelta(hours=1)
_APP_IDLE: Final = timedelta(milliseconds=1500)
"""Shorter than the keep-alive of the usual servers (2 s and more): a request that is sent while
the application closes its idle connection fails. Connecting on one host costs next to nothing.
"""
_BUFFER_BYTES: Final = 32 * 1024
_PEER_BUFFER_BYTES: Final = 1024 * 1024
"""Of the one connection to a peer; as at its inbound listener."""
_STREAMS: Final = 100
_STREAM_WINDOW_BYTES: Final = 64 * 1024
_UNLIMITED: Final = 2**32 - 1
_FIRST_WHILE_ANY: Final = 10_000
"""An overprovisioning factor, in percent, with which one healthy endpoint of a hundred keeps all
requests away from those of the next priority.
"""
_TLS: Final = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
_HTTP_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_SECRETS: Final = (
    (ResourceType.SECRET, SVID_SECRET),
    (ResourceType.SECRET, PEERS_SECRET),
)


def clusters(view: View, memory: Memory) -> list[Generated]:
    """A cluster for each destination in scope, and `app` where there is an application."""
    retries = _retries(view)
    generated = []
    for target, each in sorted(view.destinations.items()):
        given = (each, retries.get(target, ()), view.max_connection_duration)
        generated.append(memory.of((clusters, target), given, partial(_destination, *given)))
    if inbound := view.inbound:
        generated.append(memory.of(clusters, inbound, partial(_app, inbound)))
    return generated


def endpoints(view: View, memory: Memory) -> list[Generated]:
    """The load assignment of each mesh service; ExternalServices have theirs in the cluster."""
    generated = []
    for target, each in sorted(view.destinations.items()):
        if each.peer is not None:
            given = (target, each.endpoints, each.sources)
            generated.append(memory.of((endpoints, target), given, partial(_endpoints, *given)))
    return generated


def _endpoints(
    target: Target, instances: tuple[Endpoint, ...], sources: tuple[Position, ...]
) -> Generated:
    name = cluster_name(target)
    return Generated(
        type=ResourceType.ENDPOINTS,
        name=name,
        json=_assignment(name, instances),
        sources=sources,
    )


def _destination(
    destination: Destination, retries: tuple[Retry, ...], max_duration: timedelta
) -> Generated:
    name = cluster_name(destination.target)
    shared = destination.peer is not None and destination.protocol.is_http
    fields: JSON = {
        "name": name,
        **_instances(name, destination),
        "connect_timeout": text(destination.timeouts.connect or _CONNECT),
        "per_connection_buffer_limit_bytes": _PEER_BUFFER_BYTES if shared else _BUFFER_BYTES,
        "circuit_breakers": {"thresholds": [_limits(destination, retries)]},
        **balancer(destination.algorithm),
        **ejection(destination.outlier_detection),
        **_http(destination, max_duration),
    }
    if destination.peer is not None:
        fields["transport_socket"] = _mutual_tls(destination.peer, destination.protocol)
    return Generated(
        type=ResourceType.CLUSTER,
        name=name,
        json=fields,
        sources=destination.sources,
        names=() if destination.peer is None else ((ResourceType.ENDPOINTS, name), *_SECRETS),
    )


def _app(inbound: Inbound) -> Generated:
    """The application. What callers may ask of it is limited where they call."""
    limits = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    fields: JSON = {
        "name": APP_CLUSTER,
        "type": "STATIC",
        "load_assignment": _static(APP_CLUSTER, (inbound.app,)),
        "connect_timeout": text(_CONNECT),
        "per_connection_buffer_limit_bytes": _BUFFER_BYTES,
        "circuit_breakers": {"thresholds": [dict.fromkeys(limits, _UNLIMITED)]},
    }
    if inbound.protocol.is_http:
        fields |= _http_options(
            {
                "common_http_protocol_options": {"idle_timeout": text(_APP_IDLE)},
                "explicit_http_config": _codec(inbound.protocol),
            }
        )
    return Generated(
        type=ResourceType.CLUSTER, name=APP_CLUSTER, json=fields, sources=inbound.sources
    )


def _instances(name: str, destination: Destination) -> JSON:
    if destination.peer is None:
        return {"type": "STATIC", "load_assignment": _static(name, destination.addresses)}
    return {"type": "EDS", "eds_cluster_config": {"eds_config": ADS, "service_name": name}}


def _limits(destination: Destination, budgets: tuple[Retry, ...]) -> JSON:
    """Circuit breakers. A budget replaces the limit of retries, as Envoy has it; where several
    routes with budgets of their own send here, the largest one holds.
    """
    limits = destination.limits
    fields: JSON = {
        "max_connections": limits.connections,
        "max_pending_requests": limits.pending_requests,
        "max_requests": limits.requests,
        "max_retries": limits.retries,
    }
    if budgets:
        fields["retry_budget"] = {
            "budget_percent": {"value": max(each.budget_percent for each in budgets)},
            "min_retry_concurrency": max(each.budget_min_concurrency for each in budgets),
        }
    return fields


def _retries(view: View) -> Mapping[Target, tuple[Retry, ...]]:
    """The retries of each destination: its own policy's, and those of the routes to it."""
    found: dict[Target, list[Retry]] = {
        target: [destination.retry] if destination.retry else []
        for target, destination in view.destinations.items()
    }
    for route in (route for service in view.services for route in service.routes if route.retry):
        for share in route.shares:
            if route.retry and share.destination in found:
                found[share.destination].append(route.retry)
    return {target: tuple(retries) for target, retries in found.items()}


def _http(destination: Destination, max_duration: timedelta) -> JSON:
    """HTTP/2 between sidecars whatever the application speaks; outside, what is said."""
    if not destination.protocol.is_http:
        return {}
    name = cluster_name(destination.target)
    between = Protocol.HTTP2 if destination.peer is not None else destination.protocol
    options: JSON = {
        "common_http_protocol_options": {
            "idle_timeout": text(destination.timeouts.idle or _IDLE),
            "max_connection_duration": text(spread(max_duration, name)),
        },
        "explicit_http_config": _codec(between),
    }
    if destination.algorithm is Algorithm.LATENCY_AWARE:
        options["http_filters"] = load_report()
    return _http_options(options)


def _http_options(options: JSON) -> JSON:
    typed = {"@type": f"type.googleapis.com/{_HTTP_OPTIONS}", **options}
    return {"typed_extension_protocol_options": {_HTTP_OPTIONS: typed}}


def _codec(protocol: Protocol) -> JSON:
    """The connection's window is that of all its streams: stalled readers starve no other."""
    if protocol is Protocol.HTTP:
        return {"http_protocol_options": {"enable_trailers": True}}
    return {
        "http2_protocol_options": {
            "max_concurrent_streams": _STREAMS,
            "initial_stream_window_size": _STREAM_WINDOW_BYTES,
            "initial_connection_window_size": _STREAMS * _STREAM_WINDOW_BYTES,
        }
    }


def _mutual_tls(peer: str, protocol: Protocol) -> JSON:
    """TLS 1.3 with the sidecar's own leaf, to exactly this peer (SPIFFE X.509-SVID section 5)."""
    context: JSON = {
        "tls_params": {
            "tls_minimum_protocol_version": "TLSv1_3",
            "tls_maximum_protocol_version": "TLSv1_3",
        },
        "tls_certificate_sds_secret_configs": [{"name": SVID_SECRET, "sds_config": ADS}],
        "combined_validation_context": {
            "default_validation_context": {
                "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": peer}}]
            },
            "validation_context_sds_secret_config": {"name": PEERS_SECRET, "sds_config": ADS},
        },
    }
    if protocol.is_http:
        context["alpn_protocols"] = ["h2"]
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {"@type": _TLS, "common_tls_context": context},
    }


def _assignment(name: str, instances: Iterable[Endpoint]) -> JSON:
    """Healthy endpoints first; silent ones are a last resort; those that fail get nothing."""
    best: dict[Address, Health] = {}
    for each in instances:
        address = Address(each.address, each.port)
        # A port may have passed on to a successor while its predecessor's record lives.
        if best.get(address) is not Health.HEALTHY and each.health is not Health.UNHEALTHY:
            best[address] = each.health
    by_health = (
        sorted(address for address, health in best.items() if health is wanted)
        for wanted in (Health.HEALTHY, Health.DEGRADED)
    )
    levels = [addresses for addresses in by_health if addresses]
    assignment: JSON = {
        "cluster_name": name,
        "endpoints": [
            {"priority": priority, **_localized(addresses)}
            for priority, addresses in enumerate(levels)
        ],
    }
    if len(levels) > 1:
        assignment["policy"] = {"overprovisioning_factor": _FIRST_WHILE_ANY}
    return assignment


def _static(name: str, addresses: Iterable[Address]) -> JSON:
    return {"cluster_name": name, "endpoints": [_localized(addresses)]}


def _localized(addresses: Iterable[Address]) -> JSON:
    return {
        "lb_endpoints": [
            {
                "endpoint": {
                    "address": {
                        "socket_address": {"address": each.address, "port_value": each.port}
                    }
                }
            }
            for each in addresses
        ]
    }
