"""The yardstick: a hand-written two-hop Envoy pair with mutual TLS and one access rule.

Every setting that was measured to be cheaper is on (HTTP/2 between, TLS 1.3, no request ids, no
timers, few statistics) and nothing that the mesh adds is there. What it answers to is what ours is
compared with, in the same run.
"""

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

from mesh.adapters.clock import SystemClock
from mesh.adapters.issuer import LocalIssuer
from mesh.ca.request import new_key_and_csr
from mesh.model.identity import Identity, ServiceName

X = "type.googleapis.com/envoy.extensions."
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
BODY = "x" * 1024
DAY = timedelta(days=1)


def bootstrap(folder: Path, name: str, listener: dict[str, Any], *clusters: Any) -> Path:
    """Write one Envoy's configuration; its path."""
    kept = ("downstream_rq_", "downstream_cx_", "upstream_rq_", "rbac", "membership_")
    content = {
        "admin": {"address": {"pipe": {"path": str(folder / f"{name}.sock")}}},
        "stats_config": {
            "stats_matcher": {"inclusion_list": {"patterns": [{"contains": k} for k in kept]}}
        },
        "static_resources": {"listeners": [listener], "clusters": list(clusters)},
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content))
    return path


def application(folder: Path, port: int) -> Path:
    """An application as fast as they come: an Envoy that answers 1 KB itself."""
    route = {"match": {"prefix": "/"}, "direct_response": {"status": 200}}
    route["direct_response"] |= {"body": {"inline_string": BODY}}
    return bootstrap(folder, "app", _listener(port, [_hcm("HTTP1", route)]))


def caller(folder: Path, port: int, callee: int) -> Path:
    """The outbound hop: plain HTTP/1.1 in, HTTP/2 over mutual TLS out."""
    cluster = _cluster("api", callee, h2=True)
    sans = [{"san_type": "URI", "matcher": {"exact": identity("api").uri}}]
    tls = _tls(folder, "web", sans) | {"sni": "api"}
    cluster["transport_socket"] = _socket("Upstream", tls)
    return bootstrap(folder, "out", _listener(port, [_hcm("HTTP1", _route("api"))]), cluster)


def callee(folder: Path, port: int, app: int) -> Path:
    """The inbound hop: mutual TLS, one rule by SPIFFE ID, plain HTTP/1.1 to the application."""
    principal = {"authenticated": {"principal_name": {"exact": identity("web").uri}}}
    rules = {"p": {"permissions": [{"any": True}], "principals": [principal]}}
    rbac = {"@type": f"{X}filters.http.rbac.v3.RBAC", "rules": {"policies": rules}}
    hcm = _hcm("HTTP2", _route("app"), {"name": "rbac", "typed_config": rbac})
    listener = _listener(port, [hcm])
    tls = _tls(folder, "api", []) | {"require_client_certificate": True}
    listener["filter_chains"][0]["transport_socket"] = _socket("Downstream", tls)
    return bootstrap(folder, "in", listener, _cluster("app", app, h2=False))


def identity(service: str) -> Identity:
    """The SPIFFE identity of one end."""
    return Identity("mesh.local", ServiceName("default", service))


def issue(folder: Path) -> None:
    """Certificates for both ends, by the project's own CA."""
    issuer = LocalIssuer(folder / "ca", clock=SystemClock())
    for service in ("web", "api"):
        key, csr = new_key_and_csr(identity(service))
        chain = asyncio.run(issuer.issue(identity(service), csr, DAY))
        (folder / f"{service}.pem").write_bytes(chain)
        (folder / f"{service}.key").write_bytes(key)
    (folder / "roots.pem").write_bytes(asyncio.run(issuer.bundle()).roots_pem)


def _listener(port: int, filters: list[dict[str, Any]]) -> dict[str, Any]:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    chain = {"filters": filters}
    return {"name": "l", "address": address, "filter_chains": [chain], "enable_reuse_port": False}


def _route(cluster: str) -> dict[str, Any]:
    return {"match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "0s"}}


def _hcm(codec: str, route: dict[str, Any], *filters: dict[str, Any]) -> dict[str, Any]:
    router = {"@type": f"{X}filters.http.router.v3.Router"}
    router |= {"suppress_envoy_headers": True, "dynamic_stats": False}
    manager = {
        "@type": f"{X}filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "codec_type": codec,
        "generate_request_id": False,
        "stream_idle_timeout": "0s",
        "request_timeout": "0s",
        "common_http_protocol_options": {"idle_timeout": "0s"},
        "skip_xff_append": True,
        "server_header_transformation": "PASS_THROUGH",
        "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [route]}]},
        "http_filters": [*filters, {"name": "router", "typed_config": router}],
    }
    return {"name": "hcm", "typed_config": manager}


def _cluster(name: str, port: int, *, h2: bool) -> dict[str, Any]:
    protocol = {"http2_protocol_options": {}} if h2 else {"http_protocol_options": {}}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    options = {"@type": f"type.googleapis.com/{HTTP_OPTIONS}", "explicit_http_config": protocol}
    return {
        "name": name,
        "type": "STATIC",
        "load_assignment": {"cluster_name": name, "endpoints": endpoints},
        "typed_extension_protocol_options": {HTTP_OPTIONS: options},
    }


def _tls(folder: Path, name: str, sans: list[dict[str, Any]]) -> dict[str, Any]:
    certificate = {
        "certificate_chain": {"filename": str(folder / f"{name}.pem")},
        "private_key": {"filename": str(folder / f"{name}.key")},
    }
    validation: dict[str, Any] = {"trusted_ca": {"filename": str(folder / "roots.pem")}}
    if sans:
        validation["match_typed_subject_alt_names"] = sans
    only = {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"}
    common = {"tls_certificates": [certificate], "validation_context": validation}
    return {"common_tls_context": common | {"tls_params": only, "alpn_protocols": ["h2"]}}


def _socket(side: str, context: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "tls",
        "typed_config": {"@type": f"{X}transport_sockets.tls.v3.{side}TlsContext"} | context,
    }
