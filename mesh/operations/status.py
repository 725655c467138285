"""How far every sidecar is."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mesh.latest import Latest
from mesh.operations.authority import ServedAuthority, read_served, served
from mesh.operations.concurrency import closing
from mesh.operations.sidecars import Member, members, read_members
from mesh.operations.sources import Followed, read_sources, sources
from mesh.operations.state import read_head
from mesh.planning import keyspace
from mesh.planning.record import parse_record
from mesh.ports import Entry, Store, Watched


@dataclass(frozen=True, slots=True)
class Status:
    """Head, the sidecars by id, the sources that follow git by name, the certificate authority
    where it is a service. `lost` is why this is old news, where it is.
    """

    head: int
    members: tuple[Member, ...]
    lost: str | None = None
    sources: tuple[Followed, ...] = ()
    authority: ServedAuthority | None = None


async def status(store: Store) -> Status:
    """The mesh as it is now."""
    head, _ = await read_head(store)
    number = head.revision.number if head else 0
    return Status(
        number,
        await read_members(store),
        sources=await read_sources(store),
        authority=await read_served(store),
    )


async def follow(store: Store, show: Callable[[Status], None]) -> None:
    """Show the status now and after each change, the newest only, until cancelled.

    An outage is told once as `lost`, with the last known status.
    """
    cells: dict[str, Latest[Watched | None]] = {
        prefix: Latest(None)
        for prefix in (keyspace.HEAD, keyspace.SIDECARS, keyspace.SYNC, keyspace.CA)
    }
    changed = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for prefix, cell in cells.items():
            group.create_task(_feed(store, prefix, cell, changed))
        last: Status | None = None
        while True:
            await changed.wait()
            changed.clear()
            known = {prefix: cell.value for prefix, cell in cells.items() if cell.value}
            if len(known) < len(cells):
                continue
            newest = _status(known)
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


def _status(known: Mapping[str, Watched]) -> Status:
    lost = (watched.lost for watched in known.values() if watched.lost)
    return Status(
        _number(known[keyspace.HEAD].entries),
        members(known[keyspace.SIDECARS].entries),
        next(lost, None),
        sources(known[keyspace.SYNC].entries),
        served(known[keyspace.CA].entries),
    )


def _number(entries: Mapping[str, Entry]) -> int:
    entry = entries.get(keyspace.HEAD)
    return parse_record(entry.value).revision.number if entry else 0
