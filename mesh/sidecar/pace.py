"""How often something may be done: what is rare at once, a storm spread."""

from collections.abc import Callable
from datetime import timedelta
from typing import Generic, TypeVar

from mesh.ports import Clock

T = TypeVar("T")


class Pace:
    """`burst` times in a row, then once each `interval`."""

    def __init__(self, clock: Clock, interval: timedelta, burst: int) -> None:
        self._clock = clock
        self._interval = interval.total_seconds()
        self._allowance = burst * self._interval
        self._spent = 0.0  # the moment until which all that was done is made up for

    async def turn(self) -> None:
        """Wait until it may be done."""
        wait = self._spent + self._interval - self._allowance - self._clock.monotonic()
        if wait > 0:
            await self._clock.sleep(timedelta(seconds=wait))

    def spend(self, share: float = 1.0) -> None:
        """It was done, and counts as this share of once."""
        self._spent = max(self._spent, self._clock.monotonic()) + share * self._interval


class Rarely(Generic[T]):
    """The answer of `look`; a remembered one while that is younger than `interval`."""

    def __init__(self, clock: Clock, interval: timedelta, look: Callable[[], T]) -> None:
        self._clock = clock
        self._interval = interval.total_seconds()
        self._look = look
        self._known: tuple[float, T] | None = None

    def __call__(self) -> T:
        now = self._clock.monotonic()
        if self._known is None or now - self._known[0] >= self._interval:
            self._known = (now, self._look())
        return self._known[1]
