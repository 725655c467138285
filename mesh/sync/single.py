"""`mesh sync --once`: one look, for CI."""

import asyncio
from dataclasses import replace
from datetime import timedelta

from mesh.errors import NotAccepted, Unavailable
from mesh.model.source import SourceStatus
from mesh.operations.acceptance import Acceptance
from mesh.operations.concurrency import closing, first_leaf
from mesh.operations.sources import leader_name
from mesh.planning import keyspace
from mesh.ports import Store
from mesh.sync import reports
from mesh.sync.follower import Follower, Looked
from mesh.sync.leadership import TTL, Leadership
from mesh.sync.options import SyncOptions, SyncPorts

# A sync that was killed a moment ago leads until its lease is out.
ELECTION = TTL * 1.5


async def once(options: SyncOptions, ports: SyncPorts, patience: timedelta = ELECTION) -> Looked:
    """Look once and wait for the sidecars; `patience` is for another sync to end.

    What is wrong with the repository or the commit is the result's `error`, and NotAccepted where
    not every sidecar accepted it in time.

    Raises:
        Unavailable: another sync leads the source, or the store is out of reach.
    """
    async with ports.store() as store:
        leadership = Leadership(store, ports.clock, options.source, options.name)
        await _take_lead(store, leadership, options.source, patience)
        try:
            looked = await _look(options, ports, store, leadership)
            found = looked.acceptance
            if found is not None and not found.is_complete:
                looked = replace(looked, error=_not_accepted(looked.status, found))
                if found.rejected:
                    status = reports.rejected(looked.status, found, ports.clock.now())
                    looked = replace(looked, status=status)
            await reports.write_report(store, looked.status)
        finally:
            await leadership.release()
    ports.tell(looked.status)
    return looked


async def _look(
    options: SyncOptions, ports: SyncPorts, store: Store, leadership: Leadership
) -> Looked:
    try:
        async with asyncio.TaskGroup() as tasks:
            keeper = tasks.create_task(leadership.keep())
            async with ports.repository() as repository:
                follower = Follower(options, store, ports.clock, repository)
                follower.fence = leadership.fence
                looked = await follower.look(wait=True)
            keeper.cancel()
    except BaseExceptionGroup as errors:
        raise first_leaf(errors) from None
    return looked


async def _take_lead(
    store: Store, leadership: Leadership, source: str, patience: timedelta
) -> None:
    key = keyspace.sync(source, keyspace.LEADER)
    leader = "unknown"
    try:
        async with asyncio.timeout(patience.total_seconds()):
            async with closing(store.watch(key)) as states:
                async for watched in states:
                    if key in watched.entries:
                        leader = leader_name(watched.entries[key].value)
                    elif watched.lost is None and await leadership.acquire():
                        return
    except TimeoutError as error:
        raise Unavailable(
            f'"{leader}" already syncs "{source}"',
            "leave it to that one, or stop it first; `mesh status` shows what it does",
        ) from error


def _not_accepted(status: SourceStatus, found: Acceptance) -> NotAccepted:
    names = ", ".join((*found.rejected, *found.pending))
    return NotAccepted(
        f"revision {status.revision} is committed but not accepted everywhere: "
        f"{len(found.rejected)} rejected, {len(found.pending)} pending ({names})",
        "`mesh status` shows how it goes on; revert the commit, or `mesh rollback` goes back",
    )
