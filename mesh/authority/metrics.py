"""The service's figures in Prometheus's text format, version 0.0.4."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """Counters since the start, and what is true now."""

    def __init__(self) -> None:
        self._issued: Counter[str] = Counter()
        self._refused: Counter[tuple[str, str]] = Counter()
        self._buckets: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = {}
        self.not_after: Mapping[str, datetime] = {}
        self.is_published = False

    def issued(self, kind: str) -> None:
        """A certificate was signed for a `join` or a `renew`."""
        self._issued[kind] += 1

    def refused(self, kind: str, reason: str) -> None:
        """A request was refused; `reason` is the answer's code."""
        self._refused[kind, reason] += 1

    def took(self, kind: str, seconds: float) -> None:
        """A request was answered after so long."""
        counts = self._buckets.setdefault(kind, [0] * (len(_BOUNDS) + 1))
        counts[bisect_left(_BOUNDS, seconds)] += 1
        self._seconds[kind] = self._seconds.get(kind, 0.0) + seconds

    def text(self) -> str:
        """All of it."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        name = "mesh_ca_certificates_issued_total"
        yield from _head(name, "counter", "Certificates signed, by what proved the identity.")
        for kind in sorted({"join", "renew", *self._issued}):
            yield f'{name}{{kind="{kind}"}} {self._issued[kind]}'
        name = "mesh_ca_requests_refused_total"
        yield from _head(name, "counter", "Requests refused, by the answer's code.")
        for (kind, reason), count in sorted(self._refused.items()):
            yield f'{name}{{kind="{kind}",reason="{reason}"}} {count}'
        name = "mesh_ca_certificate_expiry_timestamp_seconds"
        yield from _head(name, "gauge", "When the authority's own certificates end, Unix time.")
        for certificate, end in sorted(self.not_after.items()):
            yield f'{name}{{certificate="{certificate}"}} {end.timestamp():.0f}'
        name = "mesh_ca_published"
        yield from _head(name, "gauge", "1 while the store has the newest roots and state.")
        yield f"{name} {int(self.is_published)}"
        yield from self._histogram()

    def _histogram(self) -> Iterator[str]:
        name = "mesh_ca_request_duration_seconds"
        yield from _head(name, "histogram", "From a whole request to its answer.")
        for kind, counts in sorted(self._buckets.items()):
            total = 0
            for bound, count in zip((*map(str, _BOUNDS), "+Inf"), counts, strict=True):
                total += count
                yield f'{name}_bucket{{kind="{kind}",le="{bound}"}} {total}'
            yield f'{name}_sum{{kind="{kind}"}} {self._seconds[kind]:.6f}'
            yield f'{name}_count{{kind="{kind}"}} {total}'


def _head(name: str, kind: str, help: str) -> Iterator[str]:
    yield f"# HELP {name} {help}"
    yield f"# TYPE {name} {kind}"
