"""Listeners: addresses, TLS and the fixed list of filters. Whatever changes often is elsewhere
(routes RDS, access rules ECDS, keys SDS), because a changed listener drains its connections for
minutes and lets the old rules decide meanwhile.

Every choice below that is not a field of a policy is a safe default: the path a rule reads is the
path that is forwarded, identity headers come from the handshake only, and what a client may make
a sidecar hold is bounded.
"""

from datetime import timedelta
from typing import Any, Final

from mesh.compiler import authorization, replies
from mesh.compiler.durations import spread, text
from mesh.compiler.generated import (
    ADS,
    APP_CLUSTER,
    CALLERS_SECRET,
    INBOUND_ROUTES,
    JSON,
    OUTBOUND_ROUTES,
    PEERS_SECRET,
    SVID_SECRET,
    Generated,
    cluster_name,
)
from mesh.compiler.view import Inbound, TCPUpstream, View
from mesh.diagnostics import Position
from mesh.model.policy import Address, Protocol
from mesh.model.snapshot import ResourceType

_TYPE: Final = "type.googleapis.com/envoy.extensions."
_HCM: Final = _TYPE + "filters.network.http_connection_manager.v3.HttpConnectionManager"
_BUFFER_BYTES: Final = 32 * 1024
_PEER_BUFFER_BYTES: Final = 1024 * 1024
"""Of a connection that carries all requests of a peer: 64 answers of 1 KB at once are more than one
connection's share, and to stop and resume reading them cost 9 % of the callee's CPU. A peer that
stalls is bounded by its streams' windows, which are more than this.
"""
_STREAMS: Final = 100
_STREAM_WINDOW_BYTES: Final = 64 * 1024
_HANDSHAKE: Final = timedelta(seconds=10)


def listeners(view: View) -> list[Generated]:
    """The outbound listener, one for each TCP upstream, and the inbound one.

    Identity before listeners: without a leaf and roots there is no inbound listener.
    """
    found = [_outbound(view), *(_upstream(view, each) for each in view.upstreams)]
    if view.inbound is not None and view.has_identity:
        found.append(_inbound(view, view.inbound))
    return found


def _outbound(view: View) -> Generated:
    """HTTP by Host, for the applications of this machine: any HTTP version, no TLS."""
    manager = {
        **_http_manager("outbound", OUTBOUND_ROUTES),
        "codec_type": "AUTO",
        # HTTP/1.0 is what reverse proxies of old speak to what is behind them.
        "http_protocol_options": {"enable_trailers": True, "accept_http_10": True},
        "strip_trailing_host_dot": True,
        "common_http_protocol_options": {"headers_with_underscores_action": "REJECT_REQUEST"},
        "forward_client_cert_details": "SANITIZE",
        "http_filters": [_external_access(), _router(view)],
    }
    return _listener(
        name="outbound",
        address=view.placement.outbound,
        direction="OUTBOUND",
        chain={
            "filters": [_filter("envoy.filters.network.http_connection_manager", _HCM, manager)]
        },
        names=((ResourceType.ROUTE, OUTBOUND_ROUTES),),
    )


def _upstream(view: View, upstream: TCPUpstream) -> Generated:
    """One TCP service on a loopback address of its own."""
    cluster = cluster_name(upstream.destination)
    idle = view.destinations[upstream.destination].timeouts.idle
    return _listener(
        name=f"upstream/{cluster}",
        address=upstream.listen,
        direction="OUTBOUND",
        chain={"filters": [_tcp_proxy("outbound", cluster, _optional("idle_timeout", idle))]},
        names=((ResourceType.CLUSTER, cluster),),
        sources=upstream.sources,
    )


def _inbound(view: View, inbound: Inbound) -> Generated:
    """What the mesh reaches the application by: mutual TLS, access rules, the application."""
    lifetime = spread(view.max_connection_duration, view.placement.id)
    http = inbound.protocol.is_http
    buffer = _PEER_BUFFER_BYTES if http else _BUFFER_BYTES
    access = authorization.HTTP_ACCESS if http else authorization.TCP_ACCESS
    decided = _inbound_http(view, lifetime) if http else _inbound_tcp(lifetime)
    leads_to = (ResourceType.ROUTE, INBOUND_ROUTES) if http else (ResourceType.CLUSTER, APP_CLUSTER)
    return _listener(
        name="inbound",
        address=inbound.listen,
        direction="INBOUND",
        chain={
            "filters": [_members(view), *decided],
            "transport_socket": _mutual_tls(inbound.protocol),
            "transport_socket_connect_timeout": text(_HANDSHAKE),
        },
        names=(
            (ResourceType.SECRET, SVID_SECRET),
            (ResourceType.SECRET, _validates(inbound.protocol)),
            (ResourceType.EXTENSION, access),
            leads_to,
        ),
        sources=inbound.sources,
        buffer=buffer,
    )


def _members(view: View) -> JSON:
    """What no access rule can let in, decided once for a connection."""
    name = authorization.NOT_A_MEMBER
    return {"name": name, "typed_config": authorization.members(view.trust_domain)}


def _inbound_http(view: View, lifetime: timedelta) -> list[JSON]:
    manager = {
        **_http_manager("inbound", INBOUND_ROUTES),
        "codec_type": "HTTP2",
        "common_http_protocol_options": {
            "headers_with_underscores_action": "REJECT_REQUEST",
            # An old leaf or a revoked root lives no longer than this on an open connection.
            "max_connection_duration": text(lifetime),
        },
        # What a caller says of itself is dropped; the handshake's URIs take its place.
        "forward_client_cert_details": "SANITIZE_SET",
        "set_current_client_cert_details": {"uri": True},
        "http_filters": [
            _discovered(authorization.HTTP_ACCESS, authorization.HTTP_RBAC),
            _router(view),
        ],
    }
    return [_filter("envoy.filters.network.http_connection_manager", _HCM, manager)]


def _inbound_tcp(lifetime: timedelta) -> list[JSON]:
    limit = {"max_downstream_connection_duration": text(lifetime)}
    return [
        _discovered(authorization.TCP_ACCESS, authorization.NETWORK_RBAC),
        _tcp_proxy("inbound", APP_CLUSTER, limit),
    ]


def _http_manager(name: str, routes: str) -> dict[str, Any]:
    """What both HTTP connection managers have in common."""
    return {
        "stat_prefix": name,
        "rds": {"config_source": ADS, "route_config_name": routes},
        "http2_protocol_options": {
            "max_concurrent_streams": _STREAMS,
            # The connection's window is that of all its streams: stalled readers starve no other.
            "initial_stream_window_size": _STREAM_WINDOW_BYTES,
            "initial_connection_window_size": _STREAMS * _STREAM_WINDOW_BYTES,
            "allow_connect": True,
        },
        # On a rule for /admin 26 of 38 ways to write that path get past Envoy's defaults.
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        # Addresses are not identities here: nobody is internal, and x-forwarded-for is left alone.
        "use_remote_address": False,
        "internal_address_config": {"cidr_ranges": [_NOBODY]},
        "early_header_mutation_extensions": [_strip()],
        "local_reply_config": replies.local_replies(),
        "generate_request_id": False,
        "server_header_transformation": "PASS_THROUGH",
        "proxy_100_continue": True,
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        # Time-outs are the routes' to say.
        "stream_idle_timeout": "0s",
        "request_timeout": "0s",
    }


_NOBODY: Final[JSON] = {"address_prefix": "255.255.255.255", "prefix_len": 32}


def _strip() -> JSON:
    """Drops Envoy's own headers from requests: they would override time-outs and retries."""
    mutations = _TYPE + "http.early_header_mutation.header_mutation.v3.HeaderMutation"
    remove = {"remove_on_match": {"key_matcher": {"prefix": "x-envoy-"}}}
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": {"@type": mutations, "mutations": [remove]},
    }


def _external_access() -> JSON:
    """Refuses everything if it were on by itself: only a route's own rules let anything pass."""
    body = {"@type": authorization.HTTP_RBAC, "rules": {"action": "ALLOW"}}
    return {"name": authorization.EXTERNAL_ACCESS, "typed_config": body, "disabled": True}


def _router(view: View) -> JSON:
    router = _TYPE + "filters.http.router.v3.Router"
    # Codes and times by backend and route cost some 2 % of a request: for who scrapes them only.
    # To ask for them or not is a changed listener; while it stays so, none of it changes.
    options = {"suppress_envoy_headers": True, "dynamic_stats": view.placement.metrics}
    return _filter("envoy.filters.http.router", router, options)


def _tcp_proxy(prefix: str, cluster: str, options: JSON) -> JSON:
    proxy = _TYPE + "filters.network.tcp_proxy.v3.TcpProxy"
    body = {"stat_prefix": f"{prefix}.{cluster}", "cluster": cluster, **options}
    return _filter("envoy.filters.network.tcp_proxy", proxy, body)


def _optional(name: str, duration: timedelta | None) -> JSON:
    return {} if duration is None else {name: text(duration)}


def _filter(name: str, type_url: str, body: JSON) -> JSON:
    return {"name": name, "typed_config": {"@type": type_url, **body}}


def _discovered(name: str, type_url: str) -> JSON:
    """A filter by ECDS. Until it is there the listener waits, and without it all is refused."""
    return {"name": name, "config_discovery": {"config_source": ADS, "type_urls": [type_url]}}


def _mutual_tls(protocol: Protocol) -> JSON:
    """TLS 1.3 only, with a certificate of the mesh or not at all."""
    context: dict[str, Any] = {
        "tls_params": {
            "tls_minimum_protocol_version": "TLSv1_3",
            "tls_maximum_protocol_version": "TLSv1_3",
        },
        "tls_certificate_sds_secret_configs": [{"name": SVID_SECRET, "sds_config": ADS}],
        "validation_context_sds_secret_config": {
            "name": _validates(protocol),
            "sds_config": ADS,
        },
    }
    if protocol.is_http:
        context["alpn_protocols"] = ["h2"]
    body = {
        "common_tls_context": context,
        "require_client_certificate": True,
        # One long connection per peer: tickets would win nothing and outlive a removed root.
        "disable_stateless_session_resumption": True,
    }
    tls = _TYPE + "transport_sockets.tls.v3.DownstreamTlsContext"
    return _filter("envoy.transport_sockets.tls", tls, body)


def _validates(protocol: Protocol) -> str:
    """The secret that callers are validated with: requests are decided one by one, bytes once."""
    return PEERS_SECRET if protocol.is_http else CALLERS_SECRET


def _listener(
    *,
    name: str,
    address: Address,
    direction: str,
    chain: JSON,
    names: tuple[tuple[ResourceType, str], ...],
    sources: tuple[Position, ...] = (),
    buffer: int = _BUFFER_BYTES,
) -> Generated:
    socket = {"address": address.address, "port_value": address.port}
    body = {
        "name": name,
        "address": {"socket_address": socket},
        "traffic_direction": direction,
        "filter_chains": [chain],
        "per_connection_buffer_limit_bytes": buffer,
        # With it a second Envoy silently takes half of the connections, as somebody else.
        "enable_reuse_port": False,
    }
    return Generated(type=ResourceType.LISTENER, name=name, json=body, names=names, sources=sources)
