"""Metrics as values: families of samples, in the conventions of Prometheus.

Names are `mesh_<what>_<unit>`, in base units (seconds, bytes) and with `_total` on counters;
https://prometheus.io/docs/practices/naming/ is the source of these rules.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

# https://prometheus.io/docs/concepts/data_model/: a colon is for recording rules only.
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class MetricType(StrEnum):
    """Counters only grow (a restart sets them to zero), gauges move both ways."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Sample:
    """One series of a counter or gauge."""

    value: float
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def series(self) -> int:
        """How many series it is in Prometheus."""
        return 1


@dataclass(frozen=True, slots=True)
class Distribution:
    """One histogram: `buckets` are pairs of upper bound and how many values were at most that,
    both growing, without infinity; `count` are all values and `total` is their sum.
    """

    buckets: tuple[tuple[float, int], ...]
    count: int
    total: float
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def series(self) -> int:
        """How many series it is in Prometheus: the bounds, infinity, the count and the sum."""
        return len(self.buckets) + 3


@dataclass(frozen=True, slots=True)
class Family:
    """All samples of one name. `help` is one sentence.

    Raises:
        ValueError: a name that Prometheus refuses, or a counter that does not end in `_total`.
    """

    name: str
    type: MetricType
    help: str
    samples: tuple[Sample | Distribution, ...] = ()

    def __post_init__(self) -> None:
        labels = {label for sample in self.samples for label in sample.labels}
        for name in (self.name, *labels):
            if not _NAME.fullmatch(name):
                raise ValueError(f'"{name}" is no name of a metric or label')
        if (self.type is MetricType.COUNTER) != self.name.endswith("_total"):
            raise ValueError(f'"{self.name}" must end in _total exactly if it is a counter')


def counter(name: str, help: str, *samples: Sample) -> Family:
    """A counter with these series."""
    return Family(name, MetricType.COUNTER, help, samples)


def gauge(name: str, help: str, *samples: Sample) -> Family:
    """A gauge with these series."""
    return Family(name, MetricType.GAUGE, help, samples)


def histogram(name: str, help: str, distributions: Iterable[Distribution]) -> Family:
    """A histogram with these series."""
    return Family(name, MetricType.HISTOGRAM, help, tuple(distributions))
