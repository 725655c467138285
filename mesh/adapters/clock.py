"""The machine's clock: the one place that reads real time."""

import asyncio
import time
from datetime import UTC, datetime, timedelta


class SystemClock:
    """The `Clock` of every process that is not a test.

    `monotonic` does not go back when the wall clock is set; it has no meaning outside this
    process. `now` is aware UTC.
    """

    def now(self) -> datetime:
        """The time of day, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds since some moment; only differences mean anything."""
        return time.monotonic()

    async def sleep(self, duration: timedelta) -> None:
        """Let `duration` pass; none at all, or less, still gives other tasks a turn."""
        await asyncio.sleep(max(duration.total_seconds(), 0.0))
