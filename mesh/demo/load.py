"""Constant load on the shop's front door, with every answer counted."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp


@dataclass(slots=True)
class Tally:
    """Answers so far: how many, and the failed ones by what they were."""

    total: int = 0
    failed: Counter[str] = field(default_factory=Counter)

    @property
    def failures(self) -> int:
        """How many requests did not get a 200."""
        return self.failed.total()

    def __str__(self) -> str:
        what = ", ".join(f"{count} x {name}" for name, count in self.failed.most_common(3))
        return f"{self.total} requests, {self.failures} failed" + (f" ({what})" if what else "")


@asynccontextmanager
async def constant_load(url: str, connections: int = 4) -> AsyncIterator[Tally]:
    """Requests to `url` back to back on each of `connections`, for as long as the block runs."""
    tally = Tally()
    stop = asyncio.Event()

    async def worker(session: aiohttp.ClientSession) -> None:
        while not stop.is_set():
            try:
                async with session.get(url) as answer:
                    await answer.read()
                    if answer.status != 200:
                        tally.failed[f"status {answer.status}"] += 1
            except (aiohttp.ClientError, TimeoutError) as error:
                tally.failed[type(error).__name__] += 1
            tally.total += 1

    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(worker(session))
        try:
            yield tally
        finally:
            stop.set()
