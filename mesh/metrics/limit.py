"""A bound on the number of series, so that no number of services makes a scrape too much."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from mesh.metrics.family import Distribution, Family, Sample

MAX_SERIES: Final = 10_000
"""What one process exposes at most: about 1 MB for each scrape."""


def bounded(families: Iterable[Family], most: int = MAX_SERIES) -> tuple[tuple[Family, ...], int]:
    """The families with at most `most` series, and how many series that leaves out.

    What comes first stays; a histogram stays or goes as a whole.
    """
    kept: list[Family] = []
    left, dropped = most, 0
    for family in families:
        samples: list[Sample | Distribution] = []
        for sample in family.samples:
            if sample.series <= left:
                samples.append(sample)
                left -= sample.series
            else:
                left = 0
                dropped += sample.series
        kept.append(replace(family, samples=tuple(samples)))
    return tuple(kept), dropped
