"""TrafficPolicy: fields -> typed value."""

from mesh.documents.access import target
from mesh.documents.fields import (
    Object,
    duration,
    duration_or,
    integer,
    integers,
    items,
    number,
    optional_integer,
    optional_text,
    section,
    texts,
)
from mesh.model.policy import (
    Algorithm,
    Limits,
    OutlierDetection,
    PolicyKey,
    Retry,
    RetryOn,
    SuccessRate,
    Timeouts,
    TrafficPolicy,
)

OFF = "off"

# The defaults are those of the model, which docs/reference shows.
_LIMITS = Limits()
_RETRY = Retry(attempts=1)
_OUTLIERS = OutlierDetection()
_SUCCESS = SuccessRate()


def traffic_policy(key: PolicyKey, spec: Object) -> TrafficPolicy:
    """The policy in the `spec` of a valid document."""
    algorithm = optional_text(section(spec, "loadBalancer"), "algorithm")
    timeouts = section(spec, "timeouts")
    return TrafficPolicy(
        key=key,
        targets=tuple(target(key, item) for item in items(spec, "targetRefs")),
        algorithm=None if algorithm is None else Algorithm(algorithm),
        timeouts=Timeouts(
            connect=duration(timeouts, "connect"),
            request=duration(timeouts, "request"),
            idle=duration(timeouts, "idle"),
        ),
        retry=_retry(section(spec, "retry")),
        outlier_detection=_outlier_detection(spec),
        limits=_limits(section(spec, "limits")) if "limits" in spec else None,
    )


def _retry(data: Object) -> Retry | None:
    if not data:
        return None
    backoff, budget = section(data, "backoff"), section(data, "budget")
    return Retry(
        attempts=integer(data, "attempts"),
        on=frozenset(RetryOn(item) for item in texts(data, "on")),
        statuses=tuple(sorted(integers(data, "statuses"))),
        methods=tuple(sorted(texts(data, "methods"))) or None,
        per_try_timeout=duration(data, "perTryTimeout"),
        backoff_base=duration_or(backoff, "base", _RETRY.backoff_base),
        backoff_max=duration_or(backoff, "max", _RETRY.backoff_max),
        elsewhere=bool(data.get("elsewhere", _RETRY.elsewhere)),
        budget_percent=number(budget, "percent", _RETRY.budget_percent),
        budget_min_concurrency=integer(budget, "minConcurrency", _RETRY.budget_min_concurrency),
    )


def _outlier_detection(spec: Object) -> OutlierDetection | bool | None:
    given = spec.get("outlierDetection")
    if given is None:
        return None
    if given == OFF:
        return False
    data = section(spec, "outlierDetection")
    ejection = section(data, "ejection")
    return OutlierDetection(
        consecutive_5xx=optional_integer(data, "consecutive5xx"),
        consecutive_gateway_errors=optional_integer(data, "consecutiveGatewayErrors"),
        success_rate=_success_rate(section(data, "successRate")) if "successRate" in data else None,
        interval=duration_or(data, "interval", _OUTLIERS.interval),
        base_ejection=duration_or(ejection, "base", _OUTLIERS.base_ejection),
        max_ejection=duration_or(ejection, "max", _OUTLIERS.max_ejection),
        max_ejected_percent=integer(ejection, "maxPercent", _OUTLIERS.max_ejected_percent),
        panic_threshold_percent=integer(data, "panicThreshold", _OUTLIERS.panic_threshold_percent),
    )


def _success_rate(data: Object) -> SuccessRate:
    return SuccessRate(
        minimum_hosts=integer(data, "minimumHosts", _SUCCESS.minimum_hosts),
        request_volume=integer(data, "requestVolume", _SUCCESS.request_volume),
        stdev_factor=number(data, "stdevFactor", _SUCCESS.stdev_factor),
    )


def _limits(data: Object) -> Limits:
    return Limits(
        connections=integer(data, "connections", _LIMITS.connections),
        pending_requests=integer(data, "pendingRequests", _LIMITS.pending_requests),
        requests=integer(data, "requests", _LIMITS.requests),
        retries=integer(data, "retries", _LIMITS.retries),
    )
