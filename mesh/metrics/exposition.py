"""Prometheus' text format 0.0.4, which every version of Prometheus reads.

https://prometheus.io/docs/instrumenting/exposition_formats/ is the source of its rules.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from mesh.metrics.family import Distribution, Family, Sample

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""The media type of what `text` gives."""


def text(families: Iterable[Family]) -> str:
    """The families as a scrape answers them; those without a sample are left out.

    Equal families give equal text.
    """
    return "".join(f"{line}\n" for family in families if family.samples for line in _lines(family))


def _lines(family: Family) -> Iterator[str]:
    yield f"# HELP {family.name} {_escaped(family.help)}"
    yield f"# TYPE {family.name} {family.type}"
    for sample in family.samples:
        match sample:
            case Sample():
                yield f"{family.name}{_labels(sample.labels)} {_number(sample.value)}"
            case Distribution():
                yield from _distribution(family.name, sample)


def _distribution(name: str, found: Distribution) -> Iterator[str]:
    for bound, count in (*found.buckets, (math.inf, found.count)):
        labels = {**found.labels, "le": _number(bound)}
        yield f"{name}_bucket{_labels(labels)} {count}"
    yield f"{name}_sum{_labels(found.labels)} {_number(found.total)}"
    yield f"{name}_count{_labels(found.labels)} {found.count}"


def _labels(labels: Mapping[str, str]) -> str:
    pairs = ",".join(f'{name}="{_quoted(value)}"' for name, value in labels.items())
    return f"{{{pairs}}}" if pairs else ""


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', '\\"')


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if math.isnan(value):
        return "NaN"
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(value)
