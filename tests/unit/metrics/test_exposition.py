"""The text that Prometheus reads. Checked against a real one in tests/integration."""

import math

import pytest

from mesh.metrics.exposition import text
from mesh.metrics.family import Distribution, Family, MetricType, Sample, counter, gauge, histogram


def test_a_counter_has_help_type_and_a_line_for_each_series() -> None:
    family = counter(
        "mesh_requests_total",
        "Requests.",
        Sample(3, {"source": "default/web", "code": "200"}),
        Sample(1, {"source": "default/web", "code": "503"}),
    )
    assert text([family]) == (
        "# HELP mesh_requests_total Requests.\n"
        "# TYPE mesh_requests_total counter\n"
        'mesh_requests_total{source="default/web",code="200"} 3\n'
        'mesh_requests_total{source="default/web",code="503"} 1\n'
    )


def test_a_histogram_ends_in_infinity_sum_and_count() -> None:
    found = Distribution(((0.001, 1), (0.5, 4)), count=5, total=2.25, labels={"route": "r"})
    assert text([histogram("mesh_seconds", "Time.", [found])]).splitlines()[2:] == [
        'mesh_seconds_bucket{route="r",le="0.001"} 1',
        'mesh_seconds_bucket{route="r",le="0.5"} 4',
        'mesh_seconds_bucket{route="r",le="+Inf"} 5',
        'mesh_seconds_sum{route="r"} 2.25',
        'mesh_seconds_count{route="r"} 5',
    ]
    assert found.series == 5


def test_labels_and_help_are_escaped() -> None:
    family = gauge("mesh_x", "a\\b\nc", Sample(1, {"v": 'say "no"\\\n'}))
    assert text([family]) == (
        '# HELP mesh_x a\\\\b\\nc\n# TYPE mesh_x gauge\nmesh_x{v="say \\"no\\"\\\\\\n"} 1\n'
    )


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0, "0"),
        (1.0, "1"),
        (0.1, "0.1"),
        (1763716000.25, "1763716000.25"),
        (2.0**60, "1.152921504606847e+18"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (math.nan, "NaN"),
    ],
)
def test_numbers(value: float, written: str) -> None:
    assert text([gauge("mesh_x", "X.", Sample(value))]).splitlines()[-1] == f"mesh_x {written}"


def test_a_family_without_samples_is_left_out() -> None:
    assert text([counter("mesh_x_total", "X.")]) == ""


@pytest.mark.parametrize(
    ("name", "kind", "labels"),
    [
        ("mesh-x", MetricType.GAUGE, {}),
        ("9", MetricType.GAUGE, {}),
        ("mesh_x", MetricType.GAUGE, {"a-b": "1"}),
        ("mesh_x", MetricType.COUNTER, {}),
        ("mesh_x_total", MetricType.GAUGE, {}),
    ],
)
def test_bad_names_are_refused(name: str, kind: MetricType, labels: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"no name|must end in _total"):
        Family(name, kind, "X.", (Sample(1, labels),))
