"""Envoy's statistics as metrics: the golden signals of one sidecar.

Envoy counts under flat names (https://www.envoyproxy.io/docs/envoy/latest/configuration/):

    vhost.<service called>.route.<rule>.upstream_rq_<code>   requests, by the name that was called
    cluster.<backend>.<what>                                 what became of tries, per backend
    cluster.app.<what>                                       the application beside the sidecar
    http.<direction>.<what>, tcp.<...>                       listeners and access rules
    server.<what>                                            the process

Codes and times are there only where the compiler asked for them (`Placement.metrics`). Times are
whole milliseconds: 0 is "less than one".
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mesh.metrics.family import Distribution, Family, MetricType, Sample
from mesh.model.identity import ServiceName

IMPLICIT_ROUTE: Final = "-"
"""Envoy's name for the route of a service that no rule routes; as a label it is left out."""

_APP: Final = "app"
_INBOUND: Final = "inbound"
_OUTBOUND: Final = "outbound"
_BOUNDS_MS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 30_000)
_ROUTE: Final = re.compile(r"vhost\.([^.]+)\.route\.(.+)\.(upstream_rq_\w+)")
_CODE: Final = re.compile(r"upstream_rq_(\d{3})")
_RULE: Final = re.compile(r"http\.(inbound|outbound)\.rbac\.(policy|audit\.policy)\.(.+)\.(\w+)")
_CLASS: Final = re.compile(r"downstream_rq_([1-5]xx)")


@dataclass(frozen=True, slots=True)
class Bin:
    """`count` values from `lower` on, less than `lower + width`; in milliseconds."""

    lower: float
    width: float
    count: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """What one Envoy counts: numbers, and distributions by bins, each by its flat name."""

    numbers: Mapping[str, int] = field(default_factory=dict)
    bins: Mapping[str, tuple[Bin, ...]] = field(default_factory=dict)


def read_statistics(*documents: Mapping[str, Any]) -> Statistics:
    """Of what `/stats?format=json&histogram_buckets=detailed` answers, in any number of parts.

    Raises:
        KeyError, TypeError, ValueError: it is nothing that Envoy answers.
    """
    numbers: dict[str, int] = {}
    bins: dict[str, tuple[Bin, ...]] = {}
    for document in documents:
        for entry in document["stats"]:
            if "histograms" not in entry:
                numbers[entry["name"]] = int(entry["value"])
                continue
            for found in entry["histograms"].get("details", ()):
                bins[found["name"]] = tuple(
                    Bin(float(each["lower_bound"]), float(each["width"]), int(each["count"]))
                    for each in found["totals"]
                )
    return Statistics(numbers, bins)


@dataclass(frozen=True, slots=True)
class _Metric:
    """Where a number goes: the family's name and help, and labels beside those of its place."""

    name: str
    help: str
    labels: tuple[tuple[str, str], ...] = ()


_REQUESTS = _Metric("mesh_requests_total", "Requests that a route or the application answered.")
_DURATION = _Metric("mesh_request_duration_seconds", "Time from a request to its answer's end.")
_DENIED = _Metric("mesh_access_denied_total", "Requests that an access rule refused.")
_AUDITED = _Metric("mesh_access_audited_total", "Requests that an audit rule recorded.")
_ANSWERS = _Metric("mesh_responses_total", "Responses of a listener, its own refusals included.")
_OPEN = _Metric("mesh_requests_in_flight", "Requests that a listener has not answered yet.")
_UNROUTED = _Metric("mesh_unrouted_requests_total", "Requests that no route or backend is for.")
_BACKEND_REQUESTS = _Metric("mesh_backend_requests_total", "Answers to tries, by backend.")
_BACKEND_DURATION = _Metric("mesh_backend_request_duration_seconds", "Time of a backend's answer.")

_TIMEOUTS = ("mesh_timeouts_total", "Requests that took longer than they may.")
_OF_ROUTE: Final = {
    "upstream_rq_retry": _Metric("mesh_retries_total", "Tries after the first one."),
    "upstream_rq_timeout": _Metric(*_TIMEOUTS),
}

_REFUSED = ("mesh_backend_refused_total", "What a limit of a TrafficPolicy refused, by limit.")
_TLS = ("mesh_backend_tls_failures_total", "Handshakes that failed, by reason.")
_ENDPOINTS = ("mesh_backend_endpoints", "Endpoints of a backend, by state.")
_OF_BACKEND: Final = {
    "upstream_rq_per_try_timeout": _Metric(
        "mesh_backend_try_timeouts_total", "Tries that took longer than they may."
    ),
    "upstream_rq_retry_overflow": _Metric(*_REFUSED, (("limit", "retries"),)),
    "upstream_rq_pending_overflow": _Metric(*_REFUSED, (("limit", "requests"),)),
    "upstream_cx_overflow": _Metric(*_REFUSED, (("limit", "connections"),)),
    "outlier_detection.ejections_enforced_total": _Metric(
        "mesh_backend_ejections_total", "Endpoints that were left out for failing."
    ),
    "upstream_cx_connect_fail": _Metric(
        "mesh_backend_connect_failures_total", "Connections that could not be made."
    ),
    "ssl.fail_verify_san": _Metric(*_TLS, (("reason", "wrong-identity"),)),
    "ssl.fail_verify_error": _Metric(*_TLS, (("reason", "untrusted"),)),
    "ssl.connection_error": _Metric(*_TLS, (("reason", "protocol"),)),
    "upstream_cx_tx_bytes_total": _Metric(
        "mesh_backend_sent_bytes_total", "Bytes sent, before TLS, with the framing of HTTP."
    ),
    "upstream_cx_rx_bytes_total": _Metric(
        "mesh_backend_received_bytes_total", "Bytes received, after TLS, with the framing of HTTP."
    ),
    "upstream_cx_total": _Metric("mesh_backend_connections_total", "Connections made."),
    "upstream_cx_active": _Metric("mesh_backend_connections", "Connections that are open."),
    "upstream_rq_active": _Metric("mesh_backend_requests_in_flight", "Tries not answered yet."),
    "outlier_detection.ejections_active": _Metric(*_ENDPOINTS, (("state", "ejected"),)),
    "membership_healthy": _Metric(*_ENDPOINTS, (("state", "healthy"),)),
    "membership_total": _Metric(*_ENDPOINTS, (("state", "known"),)),
}
_OF_PROCESS: Final = {
    "uptime": _Metric("mesh_envoy_uptime_seconds", "How long this Envoy has been running."),
    "memory_allocated": _Metric("mesh_envoy_heap_bytes", "What Envoy has allocated."),
    "total_connections": _Metric("mesh_envoy_connections", "Connections that Envoy has open."),
}

NAMES: Final = tuple(
    dict.fromkeys(
        metric.name
        for metric in (
            *_OF_PROCESS.values(),
            *(_REQUESTS, _DENIED, _ANSWERS, _OPEN, _UNROUTED, _DURATION, _AUDITED),
            *_OF_ROUTE.values(),
            *(_BACKEND_REQUESTS, *_OF_BACKEND.values(), _BACKEND_DURATION),
        )
    )
)
"""Every family of traffic, the most telling first: a limit on series takes from the end."""

_Labels = tuple[tuple[str, str], ...]


def traffic(found: Statistics, service: ServiceName) -> tuple[Family, ...]:
    """The families of the sidecar of `service`, the most telling first; series by their labels.

    What Envoy has not counted yet is not there.
    """
    numbers: dict[_Metric, dict[_Labels, float]] = defaultdict(lambda: defaultdict(float))
    for name, value in found.numbers.items():
        for metric, labels in _places(name, str(service)):
            key = _Metric(metric.name, metric.help)
            numbers[key][tuple(sorted((*metric.labels, *labels)))] += value
    families = [
        Family(
            metric.name,
            MetricType.COUNTER if metric.name.endswith("_total") else MetricType.GAUGE,
            metric.help,
            tuple(Sample(value, dict(labels)) for labels, value in sorted(series.items())),
        )
        for metric, series in numbers.items()
    ]
    families += _durations(found.bins, str(service))
    return tuple(sorted(families, key=lambda family: NAMES.index(family.name)))


def _places(name: str, service: str) -> Iterator[tuple[_Metric, _Labels]]:
    """The metrics that a number of Envoy's adds to; none for what nobody asked for."""
    kind, _, rest = name.partition(".")
    if kind == "vhost":
        yield from _route(name, service)
    elif kind == "cluster":
        backend, _, what = rest.partition(".")
        yield from _backend(backend, what, service)
    elif kind == "http":
        yield from _listener(name, service)
    elif kind == "tcp" and rest == "inbound.rbac.denied":
        yield _DENIED, _incoming(service)
    elif kind == "tcp" and rest == "not-a-member.rbac.denied":
        yield _DENIED, (*_incoming(service), ("rule", "not-a-member"))
    elif kind == "server" and rest in _OF_PROCESS:
        yield _OF_PROCESS[rest], ()


def _route(name: str, service: str) -> Iterator[tuple[_Metric, _Labels]]:
    if found := _ROUTE.fullmatch(name):
        labels = _called(found[1], found[2], service)
        if code := _CODE.fullmatch(found[3]):
            yield _REQUESTS, (*labels, ("code", code[1]))
        elif metric := _OF_ROUTE.get(found[3]):
            yield metric, labels


def _called(host: str, route: str, service: str) -> _Labels:
    labels = (("direction", _OUTBOUND), ("source", service), ("destination", _plain(host)))
    return labels if route == IMPLICIT_ROUTE else (*labels, ("route", route))


def _backend(cluster: str, what: str, service: str) -> Iterator[tuple[_Metric, _Labels]]:
    code = _CODE.fullmatch(what)
    if cluster == _APP:
        if code:
            yield _REQUESTS, (*_incoming(service), ("code", code[1]))
        elif metric := _OF_BACKEND.get(what):
            yield metric, (("backend", _APP),)
    elif "/" in cluster:  # every destination's cluster; the agent's own has none
        if code:
            yield _BACKEND_REQUESTS, (*_tried(cluster, service), ("code", code[1]))
        elif metric := _OF_BACKEND.get(what):
            yield metric, _tried(cluster, service)


def _incoming(service: str) -> _Labels:
    return ("direction", _INBOUND), ("destination", service)


def _tried(cluster: str, service: str) -> _Labels:
    return ("source", service), ("backend", _plain(cluster))


def _listener(name: str, service: str) -> Iterator[tuple[_Metric, _Labels]]:
    _, direction, what = name.split(".", 2)
    if direction not in (_INBOUND, _OUTBOUND):
        return
    whose = (("direction", direction), *_owner(direction, service))
    if found := _RULE.fullmatch(name):
        is_audit = found[2].startswith("audit")
        if found[4] == ("shadow_allowed" if is_audit else "denied"):
            yield (_AUDITED if is_audit else _DENIED), (*whose, ("rule", found[3]))
    elif found := _CLASS.fullmatch(what):
        yield _ANSWERS, (*whose, ("code_class", found[1]))
    elif what == "downstream_rq_active":
        yield _OPEN, whose
    elif what == "rq_direct_response" and direction == _OUTBOUND:
        yield _UNROUTED, whose


def _owner(direction: str, service: str) -> _Labels:
    return (("destination" if direction == _INBOUND else "source", service),)


def _plain(cluster: str) -> str:
    """`service/<namespace>/<name>` without the kind; an ExternalService keeps it."""
    return cluster.removeprefix("service/")


def _durations(bins: Mapping[str, tuple[Bin, ...]], service: str) -> Iterator[Family]:
    found: dict[_Metric, list[Distribution]] = {_DURATION: [], _BACKEND_DURATION: []}
    for name, counted in sorted(bins.items()):
        route = _ROUTE.fullmatch(name)
        cluster = name.removeprefix("cluster.").removesuffix(".upstream_rq_time")
        if not name.endswith(".upstream_rq_time"):
            continue
        if route:
            found[_DURATION].append(distribution(counted, _called(route[1], route[2], service)))
        elif cluster == _APP:
            found[_DURATION].append(distribution(counted, _incoming(service)))
        elif "/" in cluster:
            found[_BACKEND_DURATION].append(distribution(counted, _tried(cluster, service)))
    for metric, distributions in found.items():
        if distributions:
            yield Family(metric.name, MetricType.HISTOGRAM, metric.help, tuple(distributions))


def distribution(bins: Iterable[Bin], labels: Iterable[tuple[str, str]] = ()) -> Distribution:
    """Bins of milliseconds as a histogram in seconds.

    Envoy cuts times to whole milliseconds, so that a value of 3 stands for [3, 4); the sum takes
    the middle of that, or of a wider bin.
    """
    known = tuple(bins)
    return Distribution(
        buckets=tuple(
            (bound / 1000, sum(each.count for each in known if each.lower < bound))
            for bound in _BOUNDS_MS
        ),
        count=sum(each.count for each in known),
        total=sum(each.count * (each.lower + max(each.width, 1) / 2) for each in known) / 1000,
        labels=dict(sorted(labels)),
    )
