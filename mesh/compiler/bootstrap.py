"""The file that an Envoy starts from: who it is, where its agent listens, how much it may take.

Everything else comes over ADS. Equal arguments give an equal file, so that a restart is the same
Envoy and an agent may compare it with what runs.
"""

from mesh.compiler.generated import JSON

ADS_CLUSTER = "ads"

_ADS = {"ads": {}, "resource_api_version": "V3"}
_TYPE = "type.googleapis.com/envoy."

# 1,000 services in scope take some 65 MB; the rest is room for traffic.
_HEAP_BYTES = 512 * 1024 * 1024
_CONNECTIONS = 10_000
_BUFFER_BYTES = 32 * 1024

# A pattern of 1,024 characters may compile to far more than Envoy's default of 100 instructions.
# RE2 bounds its own memory (8 MiB), and matching stays linear whatever the size.
_REGEX_PROGRAM_SIZE = 1_000_000

# What `mesh status`, metrics and people read. Every other statistic costs memory in each sidecar
# (a quarter of the heap with 100 clusters) and is not made at all.
#
# No prefix ends in a dot: Envoy treats those apart (it compares symbols, and misses the names of
# rules). Where codes and times are counted, seven of them cost 2 % more CPU for each request in the
# one series of rounds that compared both.
_STATISTICS_PREFIXES = (
    "server",
    "control_plane",
    "cluster_manager",
    "listener_manager",
    "overload",
    "extension_config_discovery",
    "http.outbound.rq_direct_response",
    "http.inbound.rbac",
    "http.outbound.rbac",
    "tcp",
)
_STATISTICS_SUFFIXES = (
    ".upstream_cx_active",
    ".upstream_cx_total",
    ".upstream_cx_rx_bytes_total",
    ".upstream_cx_tx_bytes_total",
    ".upstream_cx_connect_fail",
    ".upstream_cx_overflow",
    ".upstream_rq_total",
    ".upstream_rq_active",
    ".upstream_rq_timeout",
    ".upstream_rq_per_try_timeout",
    ".upstream_rq_retry",
    ".upstream_rq_retry_success",
    ".upstream_rq_retry_overflow",
    ".upstream_rq_pending_overflow",
    ".membership_total",
    ".membership_healthy",
    ".membership_degraded",
    ".outlier_detection.ejections_active",
    ".outlier_detection.ejections_enforced_total",
    ".ssl.handshake",
    ".ssl.connection_error",
    ".ssl.fail_verify_san",
    ".ssl.fail_verify_error",
    ".ssl.fail_verify_no_cert",
    ".downstream_cx_active",
    ".downstream_cx_total",
    ".rbac.allowed",
    ".rbac.denied",
)


# Of what a listener counts for each request, a third is read: not its times, nor each request by
# protocol and as completed.
# Codes and times, where a sidecar's metrics are scraped: of the two dozen statistics that Envoy
# then keeps for each route and cluster, the ones without "internal", "external" and classes.
_STATISTICS_PATTERNS = (
    r"http\.(in|out)bound\.downstream_rq_([1-5]xx|active|total)",
    r"cluster\.[^.]+\.upstream_rq_(\d+|time)",
    r"vhost\.[^.]+\.route\..+\.upstream_rq_(\d+|time)",
)


def bootstrap(*, node_id: str, cluster: str, ads_socket: str, admin_socket: str) -> JSON:
    """Envoy's bootstrap, as JSON.

    `node_id` is the sidecar's id, `cluster` its service (`namespace/name`). Both sockets are paths
    of at most 107 bytes (the limit of `sun_path`); Envoy makes the admin's, mode 0600.
    """
    return {
        "node": {"id": node_id, "cluster": cluster},
        "admin": {"address": {"pipe": {"path": admin_socket, "mode": 0o600}}},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": _ads_client()}],
            },
            "cds_config": _ADS,
            "lds_config": _ADS,
        },
        "static_resources": {"clusters": [_ads_cluster(ads_socket)]},
        "overload_manager": _overload_manager(),
        "layered_runtime": {"layers": [{"name": "mesh", "static_layer": _runtime()}]},
        "stats_config": {
            "use_all_default_tags": False,
            "stats_matcher": {"inclusion_list": {"patterns": _statistics()}},
        },
        # Distributions are brought up to date by who asks for them, not by a timer.
        "stats_flush_on_admin": True,
    }


def _ads_client() -> JSON:
    """Envoy's default reconnects up to 26 s late; this reconnects within 0.33 s."""
    backoff = {"base_interval": "0.05s", "max_interval": "0.5s"}
    return {"cluster_name": ADS_CLUSTER, "retry_policy": {"retry_back_off": backoff}}


def _ads_cluster(socket: str) -> JSON:
    """The agent. The keepalive leaves a frozen agent after 3 s for one that took over its path."""
    keepalive = {"connection_keepalive": {"interval": "2s", "timeout": "1s"}}
    return {
        "name": ADS_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": ADS_CLUSTER,
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": socket}}}}]},
            ],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": _TYPE + "extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": keepalive},
            }
        },
    }


def _overload_manager() -> JSON:
    """Sheds load before the machine does it by killing: first keep-alive, then requests."""
    monitors = _TYPE + "extensions.resource_monitors."
    heap = "envoy.resource_monitors.fixed_heap"
    return {
        "refresh_interval": "0.25s",
        "resource_monitors": [
            {
                "name": heap,
                "typed_config": {
                    "@type": monitors + "fixed_heap.v3.FixedHeapConfig",
                    "max_heap_size_bytes": _HEAP_BYTES,
                },
            },
            {
                "name": "envoy.resource_monitors.global_downstream_max_connections",
                "typed_config": {
                    "@type": monitors + "downstream_connections.v3.DownstreamConnectionsConfig",
                    "max_active_downstream_connections": _CONNECTIONS,
                },
            },
        ],
        "actions": [
            _action("envoy.overload_actions.shrink_heap", heap, 0.85),
            _action("envoy.overload_actions.disable_http_keepalive", heap, 0.92),
            _action("envoy.overload_actions.stop_accepting_requests", heap, 0.95),
            _action("envoy.overload_actions.stop_accepting_connections", heap, 0.98),
        ],
    }


def _action(name: str, resource: str, threshold: float) -> JSON:
    return {"name": name, "triggers": [{"name": resource, "threshold": {"value": threshold}}]}


def _runtime() -> JSON:
    return {"re2": {"max_program_size": {"error_level": _REGEX_PROGRAM_SIZE}}}


def _statistics() -> list[JSON]:
    prefixes: list[JSON] = [{"prefix": prefix} for prefix in _STATISTICS_PREFIXES]
    suffixes: list[JSON] = [{"suffix": suffix} for suffix in _STATISTICS_SUFFIXES]
    return prefixes + suffixes + [{"safe_regex": {"regex": each}} for each in _STATISTICS_PATTERNS]
