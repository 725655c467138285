"""`TrafficPolicy`: how callers treat a destination."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from mesh.model.policy.reference import PolicyKey, Target


class Algorithm(StrEnum):
    """How a try chooses its endpoint."""

    ROUND_ROBIN = "round-robin"
    RANDOM = "random"
    LEAST_REQUEST = "least-request"
    LATENCY_AWARE = "latency-aware"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Of a connection attempt, of a request as a whole, of an idle connection."""

    connect: timedelta | None = None
    request: timedelta | None = None
    idle: timedelta | None = None


class RetryOn(StrEnum):
    """When a try counts as failed and may be repeated."""

    CONNECT_FAILURE = "connect-failure"
    REFUSED_STREAM = "refused-stream"
    RESET = "reset"
    GATEWAY_ERROR = "gateway-error"
    SERVER_ERROR = "5xx"
    RETRIABLE_4XX = "retriable-4xx"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """`attempts` counts retries, not the first try. `methods is None`: the idempotent ones
    (RFC 9110 section 9.2.2). `elsewhere`: a retry goes to another endpoint where there is one.
    """

    attempts: int
    on: frozenset[RetryOn] = frozenset()
    statuses: tuple[int, ...] = ()
    methods: tuple[str, ...] | None = None
    per_try_timeout: timedelta | None = None
    backoff_base: timedelta = timedelta(milliseconds=25)
    backoff_max: timedelta = timedelta(milliseconds=250)
    elsewhere: bool = True
    budget_percent: float = 20.0
    budget_min_concurrency: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SuccessRate:
    """Ejects endpoints whose share of successes is far below the others'."""

    minimum_hosts: int = 5
    request_volume: int = 100
    stdev_factor: float = 1.9


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlierDetection:
    """When an endpoint is left out for a while. `None` switches a detector off."""

    consecutive_5xx: int | None = None
    consecutive_gateway_errors: int | None = None
    success_rate: SuccessRate | None = None
    interval: timedelta = timedelta(seconds=1)
    base_ejection: timedelta = timedelta(seconds=30)
    max_ejection: timedelta = timedelta(seconds=300)
    max_ejected_percent: int = 50
    panic_threshold_percent: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Per destination and sidecar."""

    connections: int = 1024
    pending_requests: int = 1024
    requests: int = 1024
    retries: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficPolicy:
    """How callers treat a destination. `outlier_detection` False is an explicit `off`."""

    key: PolicyKey
    targets: tuple[Target, ...]
    algorithm: Algorithm | None = None
    timeouts: Timeouts = Timeouts()
    retry: Retry | None = None
    outlier_detection: OutlierDetection | bool | None = None
    limits: Limits | None = None
