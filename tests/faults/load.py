"""Requests at a constant rate through a sidecar, each counted with its moment."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from time import monotonic

import aiohttp

from mesh.adapters.clock import SystemClock

CLOCK = SystemClock()
CONNECTIONS = 8
SECONDS_BETWEEN = 0.08
# A request that takes longer has failed for its user.
TOO_LONG = aiohttp.ClientTimeout(total=10)


@dataclass(slots=True)
class Load:
    """What was answered so far; `failures` are (moment, what)."""

    answers: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[float, str]] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """How many requests failed."""
        return len(self.failures)

    def note(self, what: str) -> None:
        """Count an answer."""
        self.answers[what] += 1
        if what != "200":
            self.failures.append((monotonic(), what))


@asynccontextmanager
async def load(url: str, host: str) -> AsyncIterator[Load]:
    """About a hundred requests a second until the end of the block."""
    found = Load()
    stop = asyncio.Event()

    async def client(http: aiohttp.ClientSession) -> None:
        while not stop.is_set():
            try:
                async with http.get(url, headers={"host": host}) as answer:
                    await answer.read()
                    reason = answer.headers.get("x-mesh-reason", "")
                    found.note(f"{answer.status} {reason}".strip())
            except (aiohttp.ClientError, TimeoutError) as error:
                found.note(type(error).__name__)
            await CLOCK.sleep(timedelta(seconds=SECONDS_BETWEEN))

    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    session = aiohttp.ClientSession(connector=connector, timeout=TOO_LONG)
    async with session as http, asyncio.TaskGroup() as tasks:
        for _ in range(CONNECTIONS):
            tasks.create_task(client(http))
        try:
            yield found
        finally:
            stop.set()
