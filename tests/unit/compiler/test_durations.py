from datetime import timedelta

import pytest

from mesh.compiler.durations import spread, text


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        (timedelta(0), "0s"),
        (timedelta(seconds=1), "1s"),
        (timedelta(milliseconds=250), "0.25s"),
        (timedelta(microseconds=1), "0.000001s"),
        (timedelta(hours=1, milliseconds=1), "3600.001s"),
    ],
)
def test_text_is_seconds_without_needless_zeros(duration: timedelta, expected: str) -> None:
    assert text(duration) == expected


def test_spread_stays_within_a_tenth_and_covers_it() -> None:
    hour = timedelta(hours=1)
    spreads = [spread(hour, f"service/default/s{n}") for n in range(500)]
    assert min(spreads) >= hour * 0.9
    assert max(spreads) <= hour * 1.1
    assert max(spreads) - min(spreads) > hour * 0.15


def test_spread_is_the_same_for_the_same_key() -> None:
    assert spread(timedelta(hours=1), "a") == spread(timedelta(hours=1), "a")
    assert spread(timedelta(hours=1), "a") != spread(timedelta(hours=1), "b")
