"""Commits as `mesh apply` makes them, in this process, so that their moment is known exactly."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

from mesh.adapters.clock import SystemClock
from mesh.cli.wiring import make_store
from mesh.errors import OutsideError
from mesh.operations.apply import Terms, apply
from mesh.operations.plan import prepare
from mesh.planning import keyspace
from mesh.ports import Store, Transaction
from mesh.settings import read_settings
from tests.benchmarks.sides import Mesh
from tests.support import servers
from tools.servers import locate

CLOCK = SystemClock()
T = TypeVar("T")


class Watched:
    """A store that notes when its head was committed: `at`, in seconds of the monotonic clock."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.at = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def commit(self, transaction: Transaction) -> None:
        await self._store.commit(transaction)
        if any(put.key == keyspace.HEAD for put in transaction.puts):
            self.at = monotonic()


class Committer:
    """Makes documents the whole state of source `main`, one revision after the other."""

    def __init__(self, store: Watched, file: Path) -> None:
        self._store = store
        self._file = file

    async def commit(self, text: str, within: float | None = None) -> float:
        """Commit; the moment when the store had taken the head.

        With `within`, return once every sidecar concerned runs it.

        Raises:
            OutsideError: a sidecar does not run it within that many seconds.
        """
        self._file.write_text(text)
        prepared = await prepare(self._store, [str(self._file)], "main")
        terms = Terms(within=None if within is None else timedelta(seconds=within))
        outcome = await apply(self._store, CLOCK, prepared, terms, lambda _: None)
        if not outcome.is_done:
            raise OutsideError(f"revision {outcome.revision}: {outcome.acceptance}")
        return self._store.at


@asynccontextmanager
async def opened(mesh: Mesh) -> AsyncIterator[Store]:
    """The mesh's store."""
    settings = read_settings({}, mesh.environment, None, mesh.folder)
    async with make_store(settings, CLOCK) as store:
        yield store


@asynccontextmanager
async def committer(mesh: Mesh) -> AsyncIterator[Committer]:
    """A committer on the mesh's store."""
    async with opened(mesh) as store:
        yield Committer(Watched(store), mesh.folder / "committed.yaml")


@contextmanager
def sqlite(_folder: Path) -> Iterator[Mapping[str, str]]:
    """Settings of the embedded store: none."""
    yield {}


@contextmanager
def etcd(folder: Path) -> Iterator[Mapping[str, str]]:
    """Settings of a real etcd of one member, which does not wait for the disk."""
    folder.mkdir(exist_ok=True)
    with servers.etcd(folder) as server:
        yield {"MESH_STORE": f"etcd://{server.endpoint}"}


def stores() -> dict[str, Any]:
    """Every kind of store that this machine can run, by name."""
    if locate("etcd") is None:
        print("  etcd: not installed, left out; run: make servers")
        return {"SQLite": sqlite}
    return {"SQLite": sqlite, "etcd": etcd}


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end."""
    return asyncio.run(work)
