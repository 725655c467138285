"""Envoy's flat names become families with labels; what nobody asked for is left alone."""

import pytest

from mesh.metrics.family import Distribution, Family, MetricType, Sample
from mesh.metrics.statistics import Bin, Statistics, distribution, read_statistics, traffic
from mesh.model.identity import ServiceName

WEB = ServiceName("default", "web")


def _found(numbers: dict[str, int]) -> dict[str, Family]:
    return {family.name: family for family in traffic(Statistics(numbers), WEB)}


def _series(numbers: dict[str, int], name: str) -> list[tuple[dict[str, str], float]]:
    samples = _found(numbers)[name].samples
    return [(dict(each.labels), each.value) for each in samples if isinstance(each, Sample)]


def test_requests_are_counted_by_source_destination_route_and_code() -> None:
    name = "vhost.service/shop/api.route.shop/api/rule.v2.upstream_rq_503"
    labels = {"direction": "outbound", "source": "default/web", "destination": "shop/api"}
    assert _series({name: 4}, "mesh_requests_total") == [
        (labels | {"route": "shop/api/rule.v2", "code": "503"}, 4)
    ]


def test_the_implicit_route_has_no_name() -> None:
    ((labels, _),) = _series(
        {"vhost.service/shop/api.route.-.upstream_rq_200": 1}, "mesh_requests_total"
    )
    assert "route" not in labels


def test_what_the_application_answered_is_inbound() -> None:
    assert _series({"cluster.app.upstream_rq_200": 7}, "mesh_requests_total") == [
        ({"direction": "inbound", "destination": "default/web", "code": "200"}, 7)
    ]


def test_a_backend_is_the_service_or_view_that_answered() -> None:
    found = _series(
        {"cluster.service/shop/api-v2.upstream_rq_200": 2}, "mesh_backend_requests_total"
    )
    assert found == [({"source": "default/web", "backend": "shop/api-v2", "code": "200"}, 2)]


def test_an_external_service_is_told_from_a_service_of_that_name() -> None:
    name = "cluster.external/default/api.upstream_rq_200"
    ((labels, _),) = _series({name: 2}, "mesh_backend_requests_total")
    assert labels["backend"] == "external/default/api"


def test_refusals_have_the_name_of_their_rule() -> None:
    numbers = {
        "http.inbound.rbac.policy.shop/api/no-secret.denied": 3,
        "http.inbound.rbac.policy.shop/api/no-secret.allowed": 9,
        "http.outbound.rbac.policy.default-deny.denied": 1,
        "tcp.inbound.rbac.denied": 5,
        "tcp.not-a-member.rbac.denied": 2,
    }
    assert _series(numbers, "mesh_access_denied_total") == [
        ({"direction": "inbound", "destination": "default/web"}, 5),
        ({"direction": "inbound", "destination": "default/web", "rule": "not-a-member"}, 2),
        ({"direction": "inbound", "destination": "default/web", "rule": "shop/api/no-secret"}, 3),
        ({"direction": "outbound", "source": "default/web", "rule": "default-deny"}, 1),
    ]


@pytest.mark.parametrize(
    ("name", "family", "labels"),
    [
        ("upstream_cx_overflow", "mesh_backend_refused_total", {"limit": "connections"}),
        ("upstream_rq_pending_overflow", "mesh_backend_refused_total", {"limit": "requests"}),
        ("upstream_rq_retry_overflow", "mesh_backend_refused_total", {"limit": "retries"}),
        ("upstream_rq_per_try_timeout", "mesh_backend_try_timeouts_total", {}),
        ("outlier_detection.ejections_enforced_total", "mesh_backend_ejections_total", {}),
        ("outlier_detection.ejections_active", "mesh_backend_endpoints", {"state": "ejected"}),
        ("membership_healthy", "mesh_backend_endpoints", {"state": "healthy"}),
        ("upstream_cx_rx_bytes_total", "mesh_backend_received_bytes_total", {}),
        ("ssl.fail_verify_san", "mesh_backend_tls_failures_total", {"reason": "wrong-identity"}),
    ],
)
def test_what_becomes_of_tries(name: str, family: str, labels: dict[str, str]) -> None:
    where = {"source": "default/web", "backend": "shop/api"}
    assert _series({f"cluster.service/shop/api.{name}": 2}, family) == [(where | labels, 2)]


@pytest.mark.parametrize(
    ("name", "family"),
    [("upstream_rq_retry", "mesh_retries_total"), ("upstream_rq_timeout", "mesh_timeouts_total")],
)
def test_retries_and_timeouts_are_those_of_a_route(name: str, family: str) -> None:
    numbers = {
        f"vhost.service/shop/api.route.shop/api/a.{name}": 6,
        f"cluster.service/x/y.{name}": 6,
    }
    ((labels, value),) = _series(numbers, family)
    assert (labels["route"], value) == ("shop/api/a", 6)


def test_what_nobody_asked_for_is_left_alone() -> None:
    numbers = {
        "cluster.ads.upstream_cx_active": 1,
        "cluster.service/a/b.upstream_rq_2xx": 1,
        "cluster.service/a/b.external.upstream_rq_200": 1,
        "vhost.service/a/b.route.-.upstream_rq_2xx": 1,
        "vhost.service/a/b.vcluster.other.upstream_rq_200": 1,
        "http.admin.downstream_rq_2xx": 1,
        "http.inbound.downstream_rq_completed": 1,
        "server.state": 1,
        "listener_manager.lds.version": 1,
        "nonsense": 1,
    }
    assert _found(numbers) == {}


def test_counters_end_in_total_and_gauges_do_not() -> None:
    found = _found({"server.uptime": 3, "cluster.service/a/b.upstream_cx_total": 1})
    assert [(each.name, each.type) for each in found.values()] == [
        ("mesh_envoy_uptime_seconds", MetricType.GAUGE),
        ("mesh_backend_connections_total", MetricType.COUNTER),
    ]


def test_the_most_telling_comes_first_whatever_the_order_of_envoy() -> None:
    numbers = {
        "cluster.service/a/b.membership_total": 1,
        "vhost.service/a/b.route.-.upstream_rq_200": 1,
        "http.inbound.rbac.policy.default-deny.denied": 1,
    }
    names = ["mesh_requests_total", "mesh_access_denied_total", "mesh_backend_endpoints"]
    assert list(_found(numbers)) == names
    assert list(_found(dict(reversed(numbers.items())))) == names


def test_times_are_cut_to_whole_milliseconds() -> None:
    found = distribution([Bin(0, 0, 5), Bin(1, 0.1, 3), Bin(2, 0.1, 2), Bin(100, 10, 1)])
    by_bound = dict(found.buckets)
    assert (by_bound[0.001], by_bound[0.002], by_bound[0.005]) == (5, 8, 10)
    assert (by_bound[0.1], by_bound[0.2], found.count) == (10, 11, 11)
    assert found.total == pytest.approx((5 * 0.5 + 3 * 1.5 + 2 * 2.5 + 105) / 1000)


def test_longer_than_every_bound_is_in_infinity_only() -> None:
    found = distribution([Bin(60_000, 1000, 1)])
    assert {count for _, count in found.buckets} == {0}
    assert found.count == 1


def test_histograms_are_of_routes_backends_and_the_application() -> None:
    one = (Bin(3, 0.1, 1),)
    found = traffic(
        Statistics(
            bins={
                "vhost.service/a/b.route.a/r/x.upstream_rq_time": one,
                "cluster.app.upstream_rq_time": one,
                "cluster.service/a/b.upstream_rq_time": one,
                "cluster.ads.upstream_rq_time": one,
                "server.initialization_time_ms": one,
            }
        ),
        WEB,
    )
    assert [(family.name, len(family.samples)) for family in found] == [
        ("mesh_request_duration_seconds", 2),
        ("mesh_backend_request_duration_seconds", 1),
    ]
    assert all(isinstance(each, Distribution) for family in found for each in family.samples)


def test_envoys_answers_are_read() -> None:
    details = {"name": "h", "totals": [{"lower_bound": 1, "width": 0.1, "count": 2}]}
    found = read_statistics(
        {"stats": [{"name": "c", "value": 3}]},
        {"stats": [{"histograms": {"supported_percentiles": [0], "details": [details]}}]},
        {"stats": [{"histograms": {}}]},
    )
    assert found == Statistics({"c": 3}, {"h": (Bin(1, 0.1, 2),)})


@pytest.mark.parametrize("bad", [{}, {"stats": [{}]}, {"stats": [{"name": "x", "value": "y"}]}])
def test_anything_else_is_an_error(bad: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        read_statistics(bad)
