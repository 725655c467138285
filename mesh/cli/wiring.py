"""The composition root: settings become adapters, for the length of a command."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import typer

from mesh.adapters.clock import SystemClock
from mesh.cli.options import Flags
from mesh.errors import UsageError
from mesh.ports import Clock, Store
from mesh.settings import EtcdStore, Settings, SQLiteStore, read_settings

T = TypeVar("T")


def settings_of(context: typer.Context) -> Settings:
    """The settings of this command.

    Raises:
        UsageError: one of them is wrong.
    """
    flags = context.obj if isinstance(context.obj, Flags) else Flags()
    given = {
        "store": flags.store,
        "discovery": flags.discovery,
        "ca": flags.ca,
        "state": flags.state,
    }
    config = None
    if flags.config is not None:
        config = Path(flags.config)
        if not config.is_file():
            raise UsageError(f'--config: there is no file "{config}"')
    return read_settings(given, os.environ, config)


@asynccontextmanager
async def open_store(settings: Settings, clock: Clock) -> AsyncIterator[Store]:
    """The store of the settings, connected."""
    async with make_store(settings, clock) as store:
        yield store


def make_store(settings: Settings, clock: Clock) -> Store:
    """The store of the settings, not yet connected."""
    match settings.store:
        case SQLiteStore(path):
            from mesh.adapters.embedded import EmbeddedStore

            return EmbeddedStore(path, clock=clock)
        case EtcdStore():
            raise NotImplementedError


def with_store(context: typer.Context, action: Callable[[Store, Clock], Awaitable[T]]) -> T:
    """Run an operation on the store of the settings."""
    settings = settings_of(context)

    async def work() -> T:
        clock = SystemClock()
        async with open_store(settings, clock) as store:
            return await action(store, clock)

    return asyncio.run(work())
