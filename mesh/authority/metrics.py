"""The service's figures."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from itertools import accumulate

from mesh.metrics import exposition
from mesh.metrics.family import Distribution, Family, Sample, counter, gauge, histogram

KINDS = ("join", "renew")
_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """Counters since the start, and what is true now."""

    def __init__(self) -> None:
        self._issued: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
        self._refused: Counter[tuple[str, str]] = Counter()
        self._counts: dict[str, list[int]] = {}
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
        counts = self._counts.setdefault(kind, [0] * (len(_BOUNDS) + 1))
        counts[bisect_left(_BOUNDS, seconds)] += 1
        self._seconds[kind] = self._seconds.get(kind, 0.0) + seconds

    def text(self) -> str:
        """All of it, as a scrape answers it."""
        return exposition.text(self.families())

    def families(self) -> tuple[Family, ...]:
        """All of it, as values."""
        return (
            counter(
                "mesh_ca_certificates_issued_total",
                "Certificates signed, by what proved the identity.",
                *(Sample(count, {"kind": kind}) for kind, count in sorted(self._issued.items())),
            ),
            counter(
                "mesh_ca_requests_refused_total",
                "Requests refused, by the answer's code.",
                *(
                    Sample(count, {"kind": kind, "reason": reason})
                    for (kind, reason), count in sorted(self._refused.items())
                ),
            ),
            gauge(
                "mesh_ca_certificate_expiry_timestamp_seconds",
                "When the authority's own certificates end, in seconds since 1970.",
                *(
                    Sample(end.timestamp(), {"certificate": certificate})
                    for certificate, end in sorted(self.not_after.items())
                ),
            ),
            gauge(
                "mesh_ca_published",
                "Whether the store has the newest roots and state.",
                Sample(self.is_published),
            ),
            histogram(
                "mesh_ca_request_duration_seconds",
                "From a whole request to its answer.",
                (self._distribution(kind) for kind in sorted(self._counts)),
            ),
        )

    def _distribution(self, kind: str) -> Distribution:
        counts = tuple(accumulate(self._counts[kind]))
        buckets = tuple(zip(_BOUNDS, counts, strict=False))
        return Distribution(buckets, counts[-1], self._seconds[kind], {"kind": kind})
