"""Many calls at a time, in one task group, with one error instead of a group of them."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TypeVar

from mesh.errors import MeshError

T = TypeVar("T")


async def for_each(
    action: Callable[[T], Awaitable[None]], items: Iterable[T], *, at_once: int
) -> None:
    """Await `action(item)` for every item, `at_once` of them together; the first of our errors
    ends the rest and is raised itself.
    """
    rest = iter(items)

    async def worker() -> None:
        for item in rest:
            await action(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(worker())
    except ExceptionGroup as errors:
        known = errors.subgroup(MeshError)
        if known is None:
            raise
        raise first_leaf(known) from None


def first_leaf(error: BaseException) -> BaseException:
    """The first error inside nested groups; the error itself if it is no group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@asynccontextmanager
async def closing(values: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """A watch that may be left early: its generator, if it is one, ends with the block."""
    try:
        yield values
    finally:
        if isinstance(values, AsyncGenerator):
            await values.aclose()
