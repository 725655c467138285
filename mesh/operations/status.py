"""How far every sidecar is."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mesh.latest import Latest
from mesh.operations.concurrency import closing
from mesh.operations.sidecars import Member, members, read_members
from mesh.operations.state import read_head
from mesh.planning import keyspace
from mesh.planning.record import parse_record
from mesh.ports import Entry, Store, Watched


@dataclass(frozen=True, slots=True)
class Status:
    """Head and the sidecars, by id. `lost` is why this is old news, where it is."""

    head: int
    members: tuple[Member, ...]
    lost: str | None = None


async def status(store: Store) -> Status:
    """The mesh as it is now."""
    head, _ = await read_head(store)
    return Status(head.revision.number if head else 0, await read_members(store))


async def follow(store: Store, show: Callable[[Status], None]) -> None:
    """Show the status now and after each change, the newest only, until cancelled.

    An outage is told once as `lost`, with the last known status.
    """
    heads: Latest[Watched | None] = Latest(None)
    sidecars: Latest[Watched | None] = Latest(None)
    changed = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(_feed(store, keyspace.HEAD, heads, changed))
        group.create_task(_feed(store, keyspace.SIDECARS, sidecars, changed))
        last: Status | None = None
        while True:
            await changed.wait()
            changed.clear()
            if heads.value is None or sidecars.value is None:
                continue
            newest = _status(heads.value, sidecars.value)
            if newest != last:
                show(newest)
            last = newest


async def _feed(
    store: Store, prefix: str, cell: Latest[Watched | None], changed: asyncio.Event
) -> None:
    async with closing(store.watch(prefix)) as states:
        async for watched in states:
            cell.set(watched)
            changed.set()


def _status(heads: Watched, sidecars: Watched) -> Status:
    return Status(
        _number(heads.entries), members(sidecars.entries), heads.lost or sidecars.lost or None
    )


def _number(entries: Mapping[str, Entry]) -> int:
    entry = entries.get(keyspace.HEAD)
    return parse_record(entry.value).revision.number if entry else 0
