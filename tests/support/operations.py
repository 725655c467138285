"""A mesh in a SQLite file of a test's own folder, changed in few words."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from mesh.adapters.clock import SystemClock
from mesh.adapters.embedded import EmbeddedStore
from mesh.model.status import SidecarStatus
from mesh.operations.apply import Outcome, Terms, apply
from mesh.operations.plan import prepare
from mesh.planning import keyspace
from mesh.planning.status_codec import encode_status
from mesh.ports import Put, Store, Transaction

CLOCK = SystemClock()


def service(name: str, namespace: str = "default", extra: str = "") -> str:
    """A Service document."""
    return (
        "apiVersion: mesh/v1\nkind: Service\n"
        f"metadata: {{name: {name}, namespace: {namespace}}}\n"
        f"spec: {{protocol: http, port: 80{extra}}}\n"
    )


def access(name: str, caller: str, methods: str = "GET") -> str:
    """An AccessPolicy on the service of the same name."""
    return (
        "apiVersion: mesh/v1\nkind: AccessPolicy\n"
        f"metadata: {{name: {name}}}\n"
        "spec:\n"
        f"  targetRefs: [{{kind: Service, name: {name}}}]\n"
        f"  rules: [{{name: r, action: allow, from: [{{service: {caller}}}], "
        f"to: [{{methods: [{methods}]}}]}}]\n"
    )


def write(folder: Path, **files: str) -> str:
    """Write `<name>.yaml` for each; the folder as an argument of a command."""
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return str(folder)


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Store]:
    """The store of a folder."""
    async with EmbeddedStore(folder / "mesh.db", clock=CLOCK) as store:
        yield store


async def applied(
    store: Store, paths: Sequence[str], source: str = "main", *, within: float = 0.0
) -> Outcome:
    """Plan and apply; without `within` (seconds) nobody waits."""
    prepared = await prepare(store, paths, source, allow_empty=True)
    terms = Terms(message="m", within=timedelta(seconds=within) if within else None)
    return await apply(store, CLOCK, prepared, terms, lambda _: None)


async def report(store: Store, status: SidecarStatus, *, alive: bool = True) -> None:
    """Report as a sidecar does."""
    key = keyspace.sidecar(status.id, keyspace.STATUS)
    puts = [Put(key, encode_status(status))]
    if alive:
        lease = await store.lease(timedelta(minutes=1))
        puts.append(Put(keyspace.sidecar(status.id, keyspace.ALIVE), b"", lease))
    await store.commit(Transaction(puts=tuple(puts)))
