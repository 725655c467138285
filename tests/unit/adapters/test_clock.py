"""The system's clock."""

from datetime import UTC, timedelta

from mesh.adapters.clock import SystemClock
from mesh.ports import Clock


def test_now_is_aware_and_in_utc() -> None:
    clock: Clock = SystemClock()
    assert clock.now().tzinfo is UTC


async def test_sleep_lasts_as_long_as_it_says() -> None:
    clock = SystemClock()
    start = clock.monotonic()
    await clock.sleep(timedelta(milliseconds=20))
    assert clock.monotonic() - start >= 0.019


async def test_a_negative_duration_returns_at_once() -> None:
    clock = SystemClock()
    start = clock.monotonic()
    await clock.sleep(timedelta(seconds=-60))
    assert clock.monotonic() - start < 30
