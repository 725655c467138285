from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from mesh.compiler.clusters import clusters, endpoints
from mesh.compiler.generated import ADS, Generated
from mesh.compiler.memory import Memory
from mesh.compiler.view import Destination, Inbound
from mesh.model.catalog import Health
from mesh.model.policy import (
    Address,
    Algorithm,
    Default,
    Limits,
    OutlierDetection,
    Protocol,
    Retry,
    Timeouts,
)
from mesh.model.snapshot import ResourceType
from tests.support.views import HERE, destination, endpoint, external, route, service, share, view

API, OUTSIDE = service("api"), external("outside")
OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def _cluster(each: Destination) -> Generated:
    [generated] = clusters(view(destinations=[each]), Memory())
    return generated


def _options(generated: Generated) -> Any:
    return generated.json["typed_extension_protocol_options"][OPTIONS]


def _context(generated: Generated) -> Any:
    return generated.json["transport_socket"]["typed_config"]["common_tls_context"]


def _thresholds(generated: Generated) -> Any:
    [thresholds] = generated.json["circuit_breakers"]["thresholds"]
    return thresholds


def _levels(*instances: Any) -> list[list[int]]:
    """The ports of each priority."""
    [generated] = endpoints(view(destinations=[destination(API, endpoints=instances)]), Memory())
    levels = generated.json["endpoints"]
    assert [each["priority"] for each in levels] == list(range(len(levels)))
    return [
        [
            item["endpoint"]["address"]["socket_address"]["port_value"]
            for item in each["lb_endpoints"]
        ]
        for each in levels
    ]


def test_a_mesh_service_names_its_endpoints_and_both_secrets() -> None:
    generated = _cluster(destination(API))
    assert generated.name == "service/default/api"
    assert generated.json["type"] == "EDS"
    assert generated.json["eds_cluster_config"] == {
        "eds_config": ADS,
        "service_name": "service/default/api",
    }
    assert generated.names == (
        (ResourceType.ENDPOINTS, "service/default/api"),
        (ResourceType.SECRET, "svid"),
        (ResourceType.SECRET, "peers"),
    )
    assert generated.sources == (HERE,)


def test_the_peer_must_be_exactly_the_service_by_tls_1_3() -> None:
    context = _context(_cluster(destination(API)))
    validation = context["combined_validation_context"]
    assert validation["default_validation_context"]["match_typed_subject_alt_names"] == [
        {"san_type": "URI", "matcher": {"exact": "spiffe://mesh.local/ns/default/svc/api"}}
    ]
    assert validation["validation_context_sds_secret_config"] == {
        "name": "peers",
        "sds_config": ADS,
    }
    assert set(context["tls_params"].values()) == {"TLSv1_3"}
    assert context["alpn_protocols"] == ["h2"]


@pytest.mark.parametrize("protocol", [Protocol.HTTP, Protocol.HTTP2, Protocol.GRPC])
def test_between_sidecars_it_is_http2_whatever_the_application_speaks(protocol: Protocol) -> None:
    http2 = _options(_cluster(destination(API, protocol=protocol)))["explicit_http_config"]
    assert http2 == {
        "http2_protocol_options": {
            "max_concurrent_streams": 100,
            "initial_stream_window_size": 64 * 1024,
            "initial_connection_window_size": 100 * 64 * 1024,
        }
    }


def test_a_tcp_service_has_mutual_tls_and_no_http() -> None:
    generated = _cluster(destination(API, protocol=Protocol.TCP))
    assert "typed_extension_protocol_options" not in generated.json
    assert "alpn_protocols" not in _context(generated)


@pytest.mark.parametrize(
    ("protocol", "codec"),
    [
        (Protocol.HTTP, "http_protocol_options"),
        (Protocol.HTTP2, "http2_protocol_options"),
        (Protocol.GRPC, "http2_protocol_options"),
    ],
)
def test_outside_the_mesh_it_is_what_is_said_in_plain(protocol: Protocol, codec: str) -> None:
    generated = _cluster(destination(OUTSIDE, protocol=protocol))
    assert generated.name == "external/default/outside"
    assert generated.json["type"] == "STATIC"
    assert "transport_socket" not in generated.json
    assert codec in _options(generated)["explicit_http_config"]
    assert generated.names == ()
    [locality] = generated.json["load_assignment"]["endpoints"]
    assert locality["lb_endpoints"][0]["endpoint"]["address"]["socket_address"] == {
        "address": "203.0.113.5",
        "port_value": 443,
    }
    assert endpoints(view(destinations=[destination(OUTSIDE)]), Memory()) == []


def test_connections_have_a_time_out_an_idle_time_and_an_end() -> None:
    generated = _cluster(destination(API))
    common = _options(generated)["common_http_protocol_options"]
    assert generated.json["connect_timeout"] == "1s"
    assert common["idle_timeout"] == "3600s"
    assert 3240 <= float(common["max_connection_duration"].rstrip("s")) <= 3960
    own = Timeouts(connect=timedelta(milliseconds=50), idle=timedelta(minutes=1))
    generated = _cluster(destination(API, timeouts=own))
    assert generated.json["connect_timeout"] == "0.05s"
    assert _options(generated)["common_http_protocol_options"]["idle_timeout"] == "60s"


def test_limits_are_circuit_breakers() -> None:
    limits = Limits(connections=1, pending_requests=2, requests=3, retries=4)
    assert _thresholds(_cluster(destination(API, limits=limits))) == {
        "max_connections": 1,
        "max_pending_requests": 2,
        "max_requests": 3,
        "max_retries": 4,
    }


def test_a_retry_has_a_budget() -> None:
    thresholds = _thresholds(_cluster(destination(API, retry=Retry(attempts=1))))
    assert thresholds["retry_budget"] == {
        "budget_percent": {"value": 20.0},
        "min_retry_concurrency": 3,
    }


def test_the_budget_of_a_route_holds_where_it_sends_to_and_the_largest_wins() -> None:
    small, large = Retry(attempts=1, budget_percent=10), Retry(attempts=1, budget_percent=50)
    v1, v2, v3 = (service(name) for name in ("v1", "v2", "v3"))
    made = clusters(
        view(
            route(share(v1), share(v2), share(None), retry=small),
            route(share(v2), retry=large),
            destinations=[destination(each) for each in (v1, v2, v3)],
        ),
        Memory(),
    )
    budgets = [
        _thresholds(each).get("retry_budget", {}).get("budget_percent", {}).get("value")
        for each in made
    ]
    assert budgets == [10, 50, None]


def test_latency_aware_reports_the_load_upstream() -> None:
    generated = _cluster(destination(API, algorithm=Algorithm.LATENCY_AWARE))
    assert "load_balancing_policy" in generated.json
    assert "lb_policy" not in generated.json
    assert len(_options(generated)["http_filters"]) == 2
    assert "http_filters" not in _options(_cluster(destination(API)))


def test_ejection_is_as_the_view_says() -> None:
    detection = OutlierDetection(consecutive_5xx=7)
    generated = _cluster(destination(API, outlier_detection=detection))
    assert generated.json["outlier_detection"]["consecutive_5xx"] == 7
    assert "outlier_detection" not in _cluster(destination(API)).json


def test_silent_endpoints_come_behind_healthy_ones_and_failing_ones_nowhere() -> None:
    silent, failing = Health.DEGRADED, Health.UNHEALTHY
    assert _levels(endpoint(2), endpoint(3, failing), endpoint(4, silent), endpoint(1)) == [
        [1, 2],
        [4],
    ]
    assert _levels(endpoint(3, failing), endpoint(4, silent)) == [[4]]
    assert _levels(endpoint(3, failing)) == []
    assert _levels() == []


def test_one_healthy_endpoint_keeps_all_requests_from_the_silent_ones() -> None:
    instances = (endpoint(1), endpoint(2, Health.DEGRADED))
    [generated] = endpoints(view(destinations=[destination(API, endpoints=instances)]), Memory())
    assert generated.json["policy"] == {"overprovisioning_factor": 10_000}


@pytest.mark.parametrize("reverse", [False, True])
def test_a_successor_at_the_address_of_a_silent_one_is_healthy(reverse: bool) -> None:
    instances = [endpoint(1, Health.DEGRADED), endpoint(1), endpoint(1, Health.UNHEALTHY)]
    assert _levels(*(reversed(instances) if reverse else instances)) == [[1]]


@pytest.mark.parametrize(
    ("protocol", "codec"),
    [(Protocol.HTTP, "http_protocol_options"), (Protocol.GRPC, "http2_protocol_options")],
)
def test_the_application_is_reached_as_it_speaks(protocol: Protocol, codec: str) -> None:
    app = _app(protocol)
    options = _options(app)
    assert codec in options["explicit_http_config"]
    assert options["common_http_protocol_options"] == {"idle_timeout": "1.5s"}
    assert "transport_socket" not in app.json


def test_trailers_of_http1_reach_the_application() -> None:
    codec = _options(_app(Protocol.HTTP))["explicit_http_config"]["http_protocol_options"]
    assert codec == {"enable_trailers": True}


def test_a_tcp_application_has_no_http() -> None:
    assert "typed_extension_protocol_options" not in _app(Protocol.TCP).json


def test_order_does_not_depend_on_the_views() -> None:
    both = [destination(service(name)) for name in ("b", "a")]
    forward, backward = (clusters(view(destinations=each), Memory()) for each in (both, both[::-1]))
    assert forward == backward
    assert [each.json for each in forward] == [each.json for each in backward]


def _app(protocol: Protocol) -> Generated:
    inbound = Inbound(
        protocol=protocol,
        listen=Address("0.0.0.0", 15006),
        app=Address("127.0.0.1", 8000),
        access_default=Default.DENY,
        sources=(HERE,),
    )
    [generated] = clusters(replace(view(), destinations={}, inbound=inbound), Memory())
    assert (generated.name, generated.sources) == ("app", (HERE,))
    return generated
