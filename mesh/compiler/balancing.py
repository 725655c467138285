"""How a cluster chooses endpoints, and when it leaves one out: balancers and ejection."""

from typing import Final

from mesh.compiler.durations import text
from mesh.compiler.generated import JSON
from mesh.model.policy import Algorithm, OutlierDetection, SuccessRate

_LATENCY: Final = "%COMMON_DURATION(US_TX_BEG:US_RX_BEG:us)%"
"""Of this try alone, in microseconds: `%RESPONSE_DURATION%` counts from the request's arrival, so
that an endpoint pays for the tries before it, and is 0 below a millisecond, which is no weight.
"""
_SCALE: Final = 1_000_000_000
"""Weights are whole: with this one, 100 us weighs ten million and a minute 17."""

_EXTENSIONS: Final = "type.googleapis.com/envoy.extensions."
_LEGACY: Final = {
    Algorithm.ROUND_ROBIN: "ROUND_ROBIN",
    Algorithm.RANDOM: "RANDOM",
    Algorithm.LEAST_REQUEST: "LEAST_REQUEST",
}


def balancer(algorithm: Algorithm) -> JSON:
    """The balancer's part of a Cluster. Least request picks the better of two at random."""
    if algorithm is not Algorithm.LATENCY_AWARE:
        return {"lb_policy": _LEGACY[algorithm]}
    name = "client_side_weighted_round_robin"
    policy = {
        "name": f"envoy.load_balancing_policies.{name}",
        "typed_config": {
            "@type": f"{_EXTENSIONS}load_balancing_policies.{name}.v3.ClientSideWeightedRoundRobin",
            "blackout_period": "0.5s",
            "weight_update_period": "0.2s",
            "weight_expiration_period": "180s",
        },
    }
    return {"load_balancing_policy": {"policies": [{"typed_extension_config": policy}]}}


def load_report() -> list[JSON]:
    """The upstream filters with which the caller's own Envoy writes the endpoint's load report.

    The balancer weighs by rps / utilization (ORCA); with the response time as utilization that is
    1 / latency, with no help from the endpoint. A report of its own would be read instead.
    """
    header = "endpoint-load-metrics"
    report = {
        "header": {
            "key": header,
            "value": f"TEXT rps_fractional={_SCALE},application_utilization={_LATENCY}",
        },
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }
    filters = f"{_EXTENSIONS}filters.http."
    return [
        {
            "name": "envoy.filters.http.header_mutation",
            "typed_config": {
                "@type": f"{filters}header_mutation.v3.HeaderMutation",
                "mutations": {
                    "response_mutations": [{"remove": f"{header}-bin"}, {"append": report}]
                },
            },
        },
        {
            "name": "envoy.filters.http.upstream_codec",
            "typed_config": {"@type": f"{filters}upstream_codec.v3.UpstreamCodec"},
        },
    ]


def ejection(detection: OutlierDetection | None) -> JSON:
    """The Cluster's `outlier_detection`, and when to ignore it because too many are ejected.

    Envoy's own defaults detect two kinds that nobody asked for, so what is off says so.
    """
    if detection is None:
        return {}
    fields: JSON = {
        "interval": text(detection.interval),
        "base_ejection_time": text(detection.base_ejection),
        "max_ejection_time": text(max(detection.base_ejection, detection.max_ejection)),
        "max_ejection_percent": detection.max_ejected_percent,
        "enforcing_consecutive_5xx": 0,
        "enforcing_success_rate": 0,
        **_success_rate(detection.success_rate),
    }
    if detection.consecutive_5xx is not None:
        fields |= {"consecutive_5xx": detection.consecutive_5xx, "enforcing_consecutive_5xx": 100}
    if detection.consecutive_gateway_errors is not None:
        fields |= {
            "consecutive_gateway_failure": detection.consecutive_gateway_errors,
            "enforcing_consecutive_gateway_failure": 100,
        }
    panic = {"healthy_panic_threshold": {"value": detection.panic_threshold_percent}}
    return {"outlier_detection": fields, "common_lb_config": panic}


def _success_rate(rate: SuccessRate | None) -> JSON:
    if rate is None:
        return {}
    return {
        "enforcing_success_rate": 100,
        "success_rate_minimum_hosts": rate.minimum_hosts,
        "success_rate_request_volume": rate.request_volume,
        "success_rate_stdev_factor": round(rate.stdev_factor * 1000),
    }
