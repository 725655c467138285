"""Waiting for news, but not for ever."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TypeVar

from mesh.latest import Latest

T = TypeVar("T")


async def newer_within(cell: Latest[T], version: int, limit: timedelta) -> bool:
    """Wait until `cell` is newer than `version`, at most `limit`; whether it is."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(limit.total_seconds(), 0.0)):
            await cell.after(version)
            return True
    return False


async def set_within(event: asyncio.Event, limit: timedelta) -> bool:
    """Wait until `event` is set, at most `limit`; whether it is."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(limit.total_seconds(), 0.0)):
            await event.wait()
    return event.is_set()


@contextlib.asynccontextmanager
async def closing(items: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """End a watch together with its reader: one that is merely dropped ends much later."""
    try:
        yield items
    finally:
        close = getattr(items, "aclose", None)
        if close is not None:
            await close()
