"""Listeners: hardened, and the same bytes whatever changes often."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

from mesh.compiler.listeners import listeners
from mesh.compiler.view import View
from mesh.model.policy import Action, HTTPRule, Policy, Protocol, Timeouts
from mesh.model.snapshot import ResourceType
from tests.support import sidecars
from tests.support.policies import (
    access,
    allow,
    mesh,
    milliseconds,
    policies,
    route,
    rule,
    service,
    traffic,
)

AUTHORITY = sidecars.Authority()


def view(*items: Policy, service: str = "api", upstreams: tuple[str, ...] = ()) -> View:
    place = sidecars.placement(service, app=8080, upstreams=upstreams)
    return sidecars.view(policies(*items), place, AUTHORITY)


def found(view: View) -> dict[str, Any]:
    return {each.name: each.json for each in listeners(view)}


def managers(view: View) -> Iterator[dict[str, Any]]:
    for name in ("outbound", "inbound"):
        yield found(view)[name]["filter_chains"][0]["filters"][-1]["typed_config"]


def test_every_listener_is_one_envoys_alone_and_bounded() -> None:
    items = (service("db", Protocol.TCP, 5432), allow("db", "api"))
    made = found(view(*items, upstreams=("db",)))
    assert made.keys() == {"outbound", "upstream/service/default/db", "inbound"}
    for name, each in made.items():
        assert each["enable_reuse_port"] is False
        kib = 1024 if name == "inbound" else 32
        assert each["per_connection_buffer_limit_bytes"] == kib * 1024


def test_paths_and_headers_are_read_one_way_only() -> None:
    for manager in managers(view()):
        assert manager["normalize_path"] is True
        assert manager["merge_slashes"] is True
        assert manager["path_with_escaped_slashes_action"] == "REJECT_REQUEST"
        options = manager["common_http_protocol_options"]
        assert options["headers_with_underscores_action"] == "REJECT_REQUEST"
        assert manager["use_remote_address"] is False
        assert manager["http2_protocol_options"]["max_concurrent_streams"] == 100


def test_identity_comes_from_the_handshake_only() -> None:
    outbound, inbound = managers(view())
    assert outbound["forward_client_cert_details"] == "SANITIZE"
    assert inbound["forward_client_cert_details"] == "SANITIZE_SET"
    assert inbound["set_current_client_cert_details"] == {"uri": True}


def test_inbound_is_mutual_tls_1_3_and_http_2() -> None:
    chain = found(view())["inbound"]["filter_chains"][0]
    tls = chain["transport_socket"]["typed_config"]
    assert tls["require_client_certificate"] is True
    assert tls["disable_stateless_session_resumption"] is True
    context = tls["common_tls_context"]
    assert context["alpn_protocols"] == ["h2"]
    assert context["tls_params"]["tls_minimum_protocol_version"] == "TLSv1_3"
    guard, manager = chain["filters"]
    assert guard["name"] == "not-a-member"
    assert manager["typed_config"]["codec_type"] == "HTTP2"


def test_without_identity_there_is_no_inbound_listener() -> None:
    whole = view()
    for part in ({"svid": None}, {"bundle": None}):
        assert found(replace(whole, **part)).keys() == {"outbound"}


def test_rules_routes_and_settings_do_not_touch_listeners() -> None:
    before = found(view(service("api"), service("b"), allow("b", "api")))
    after = found(
        view(
            service("api"),
            service("b"),
            allow("b", "api"),
            access("api", "api", rule(Action.DENY), rule(Action.AUDIT, "x")),
            route("b", "b", HTTPRule()),
            traffic("b", "b", timeouts=Timeouts(request=milliseconds(1))),
        )
    )
    assert before == after


def test_open_connections_end_within_a_tenth_of_what_the_mesh_says() -> None:
    durations = set()
    for name in ("a", "b", "c"):
        whole = view(mesh(max_connection_duration=timedelta(seconds=1000)), service=name)
        _, inbound = managers(whole)
        text = inbound["common_http_protocol_options"]["max_connection_duration"]
        durations.add(float(text.removesuffix("s")))
    assert all(900 <= each <= 1100 for each in durations)
    assert len(durations) > 1


def test_a_tcp_service_gets_bytes_after_its_access_rules() -> None:
    whole = view(service("api", Protocol.TCP, 5432))
    (inbound,) = [each for each in listeners(whole) if each.name == "inbound"]
    guard, access_filter, proxy = inbound.json["filter_chains"][0]["filters"]
    assert guard["name"] == "not-a-member"
    assert access_filter["config_discovery"]["type_urls"] == [
        "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC"
    ]
    assert proxy["typed_config"]["cluster"] == "app"
    assert (ResourceType.SECRET, "callers") in inbound.names


def test_an_upstream_says_how_long_it_may_idle_where_a_policy_does() -> None:
    items = (service("db", Protocol.TCP, 5432), allow("db", "api"))
    idle = traffic("t", "db", timeouts=Timeouts(idle=milliseconds(1500)))
    for more, expected in (((), None), ((idle,), "1.500s")):
        made = found(view(*items, *more, upstreams=("db",)))["upstream/service/default/db"]
        (proxy,) = made["filter_chains"][0]["filters"]
        idles = proxy["typed_config"].get("idle_timeout")
        assert (idles and float(idles[:-1])) == (expected and float(expected[:-1]))
