from datetime import timedelta

import pytest

from mesh.compiler.balancing import balancer, ejection, load_report
from mesh.model.policy import Algorithm, OutlierDetection, SuccessRate


@pytest.mark.parametrize(
    ("algorithm", "policy"),
    [
        (Algorithm.ROUND_ROBIN, "ROUND_ROBIN"),
        (Algorithm.RANDOM, "RANDOM"),
        (Algorithm.LEAST_REQUEST, "LEAST_REQUEST"),
    ],
)
def test_the_simple_algorithms_are_envoys_own(algorithm: Algorithm, policy: str) -> None:
    assert balancer(algorithm) == {"lb_policy": policy}


def test_latency_aware_weighs_by_reports_that_the_caller_writes() -> None:
    [policy] = balancer(Algorithm.LATENCY_AWARE)["load_balancing_policy"]["policies"]
    assert "client_side_weighted_round_robin" in policy["typed_extension_config"]["name"]
    mutation, codec = load_report()
    removed, report = mutation["typed_config"]["mutations"]["response_mutations"]
    assert removed == {"remove": "endpoint-load-metrics-bin"}
    assert report["append"]["header"]["key"] == "endpoint-load-metrics"
    assert "US_TX_BEG" in report["append"]["header"]["value"]
    assert codec["name"] == "envoy.filters.http.upstream_codec"  # Envoy wants it last


def test_no_ejection_leaves_no_field() -> None:
    assert ejection(None) == {}


def test_what_is_off_is_said_to_be_off() -> None:
    fields = ejection(OutlierDetection())["outlier_detection"]
    assert fields["enforcing_consecutive_5xx"] == 0
    assert fields["enforcing_success_rate"] == 0
    assert not {"consecutive_5xx", "consecutive_gateway_failure"} & fields.keys()


def test_each_detector_is_enforced_when_it_is_on() -> None:
    detection = OutlierDetection(
        consecutive_5xx=4,
        consecutive_gateway_errors=2,
        success_rate=SuccessRate(minimum_hosts=3, request_volume=50, stdev_factor=1.9),
        max_ejected_percent=30,
        panic_threshold_percent=10,
    )
    fields = ejection(detection)
    assert fields["common_lb_config"] == {"healthy_panic_threshold": {"value": 10}}
    assert fields["outlier_detection"] == {
        "interval": "1s",
        "base_ejection_time": "30s",
        "max_ejection_time": "300s",
        "max_ejection_percent": 30,
        "consecutive_5xx": 4,
        "enforcing_consecutive_5xx": 100,
        "consecutive_gateway_failure": 2,
        "enforcing_consecutive_gateway_failure": 100,
        "enforcing_success_rate": 100,
        "success_rate_minimum_hosts": 3,
        "success_rate_request_volume": 50,
        "success_rate_stdev_factor": 1900,
    }


def test_the_longest_ejection_is_at_least_the_first() -> None:
    detection = OutlierDetection(base_ejection=timedelta(hours=1))
    assert ejection(detection)["outlier_detection"]["max_ejection_time"] == "3600s"
