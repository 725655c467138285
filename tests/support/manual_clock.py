"""A clock that stands still until a test moves it."""

import asyncio
from datetime import UTC, datetime, timedelta

EPOCH = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


class ManualClock:
    """The `Clock` port; sleepers wake when `advance` reaches their moment."""

    def __init__(self, now: datetime = EPOCH) -> None:
        self._start = now
        self._passed = timedelta()
        self._moved = asyncio.Event()
        self._asleep = asyncio.Event()
        self.sleepers = 0

    def now(self) -> datetime:
        return self._start + self._passed

    def monotonic(self) -> float:
        return self._passed.total_seconds()

    async def sleep(self, duration: timedelta) -> None:
        until = self._passed + duration
        self.sleepers += 1
        self._asleep.set()
        try:
            while self._passed < until:
                await self._moved.wait()
            await asyncio.sleep(0)  # noqa: TID251 - a turn for the others, not a wait
        finally:
            self.sleepers -= 1
            if not self.sleepers:
                self._asleep.clear()

    async def until_asleep(self) -> None:
        """Return once somebody sleeps."""
        await self._asleep.wait()

    def advance(self, duration: timedelta) -> None:
        self._passed += duration
        self._moved.set()
        self._moved = asyncio.Event()
