"""A store with revisions in it, and waiting for what follows them."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from mesh.adapters.clock import SystemClock
from mesh.adapters.embedded import EmbeddedStore
from mesh.latest import Latest
from mesh.operations.apply import Terms, apply
from mesh.operations.plan import prepare

T = TypeVar("T")
CLOCK = SystemClock()


class QuickClock(SystemClock):
    """Real time, but who sleeps sleeps a fiftieth: pauses pass, and order stays."""

    async def sleep(self, duration: timedelta) -> None:
        await super().sleep(duration / 50)


QUICK = QuickClock()


class Commits:
    """A store, and documents committed to it."""

    def __init__(self, store: EmbeddedStore, folder: Path) -> None:
        self.store = store
        self._file = folder / "policies.yaml"

    async def __call__(self, documents: str) -> int:
        """Make `documents` all that there is; the revision."""
        self._file.write_text(documents)
        prepared = await prepare(self.store, [str(self._file)], "main", allow_empty=True)
        return (await apply(self.store, CLOCK, prepared, Terms(), lambda _: None)).revision


async def once(cell: Latest[T], holds: Callable[[T], bool]) -> T:
    """The value of a cell as soon as it holds."""
    async with asyncio.timeout(10):
        async for value in cell.changes():
            if holds(value):
                return value
    raise AssertionError("a cell never ends")
