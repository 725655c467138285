"""A cell that holds the newest value: one writer, many readers, no queue to overflow."""

import asyncio
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Latest(Generic[T]):
    """The newest `value` and its `version` (how often it was set); readers may miss values
    between, never the last one. For one event loop; not for threads.
    """

    def __init__(self, value: T) -> None:
        self._value = value
        self._version = 0
        self._changed = asyncio.Event()

    @property
    def value(self) -> T:
        """The newest value."""
        return self._value

    @property
    def version(self) -> int:
        """How often `set` changed it."""
        return self._version

    def set(self, value: T) -> None:
        """Replace the value and wake every reader; an equal value wakes nobody."""
        if value == self._value:
            return
        self._value = value
        self._version += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def after(self, version: int) -> T:
        """Wait until the cell is newer than `version`; the newest value."""
        while self._version <= version:
            await self._changed.wait()
        return self._value

    async def changes(self) -> AsyncIterator[T]:
        """The value now, then the newest after each change."""
        version = self._version
        yield self._value
        while True:
            value = await self.after(version)
            version = self._version
            yield value
