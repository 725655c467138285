"""A scrape has a bound, and says what it left out."""

from mesh.metrics.family import Distribution, Sample, counter, gauge, histogram
from mesh.metrics.limit import bounded


def _samples(count: int) -> list[Sample]:
    return [Sample(n, {"n": str(n)}) for n in range(count)]


def test_what_fits_is_left_alone() -> None:
    families = (counter("a_total", "A.", *_samples(3)), gauge("b", "B.", *_samples(2)))
    assert bounded(families, 5) == (families, 0)


def test_what_comes_first_stays() -> None:
    families = (counter("a_total", "A.", *_samples(3)), gauge("b", "B.", *_samples(4)))
    kept, dropped = bounded(families, 5)
    assert ([len(family.samples) for family in kept], dropped) == ([3, 2], 2)


def test_a_histogram_stays_or_goes_as_a_whole_and_nothing_after_it_slips_in() -> None:
    buckets = Distribution(((1.0, 1), (2.0, 2)), 2, 2.0)
    families = (histogram("h", "H.", [buckets, buckets]), gauge("b", "B.", Sample(1)))
    kept, dropped = bounded(families, 8)
    assert ([len(family.samples) for family in kept], dropped) == ([1, 0], 5 + 1)
