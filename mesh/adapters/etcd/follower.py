"""The watch loop: a prefix's state kept in a cell, over every way in which a watch can end.

List the prefix, then watch from the list's revision on; whatever ends the watch, list again. A
list is linearizable and is the truth: nothing can be lost by resuming at a wrong place, nor by a
store that was wiped, restored or compacted meanwhile.

3.4.25 to 3.4.30 answer no heartbeat until the first event (etcd pull request 17567). So silence
alone is no loss: it is one if a list fails too.
"""

import asyncio
from collections.abc import Sequence

from aetcd.rpc import kv_pb2 as kv

from mesh.adapters.etcd.members import Members
from mesh.adapters.etcd.ranges import entry_of, range_of, scan
from mesh.adapters.etcd.stream import Silent, Streams, Watch
from mesh.errors import OutsideError
from mesh.latest import Latest
from mesh.ports import Entry, Watched

PROOF_SECONDS = 1.5
DELETE = 1


class Follower:
    """Keeps `cell` at the newest state of `prefix` while `run` runs.

    The cell is None before the first state, and again when `is_over`.
    """

    def __init__(self, members: Members, streams: Streams, base: bytes, prefix: str) -> None:
        self.cell: Latest[Watched | None] = Latest(None)
        self.is_over = False
        self._members = members
        self._streams = streams
        self._base = base
        self._prefix = prefix
        self._entries: dict[str, Entry] = {}
        self._fails = 0

    async def run(self) -> None:
        """Follow until cancelled."""
        try:
            while True:
                try:
                    await self._follow()
                except OutsideError as error:
                    if isinstance(error, Silent) and await self._is_answering():
                        continue
                    self._fails += 1
                    self._report(error)
                    await self._members.backoff(self._fails)
        finally:
            self.is_over = True
            self.cell.set(None)

    def _report(self, error: OutsideError) -> None:
        """Show the loss, once: a first break alone may be over before anybody need know."""
        shown = self.cell.value
        if self._fails > 1 and (shown is None or shown.lost is None):
            self.cell.set(Watched(self._entries, lost=error.message))

    async def _is_answering(self) -> bool:
        """Whether a silent etcd can be read all the same."""
        try:
            async with asyncio.timeout(PROOF_SECONDS):
                await scan(self._members, self._base, self._prefix, keys_only=True)
        except (OutsideError, TimeoutError):
            self._fails += 1  # the time to bear with a break is over
            return False
        return True

    async def _follow(self) -> None:
        """List, then watch until the watch ends: by an error, or of old age."""
        try:
            self._entries, revision = await scan(self._members, self._base, self._prefix)
        except OutsideError:
            self._fails += 1  # a scan has tried all members for as long as it may
            raise
        self.cell.set(Watched(self._entries))
        watch = Watch(*range_of(self._base, self._prefix), revision, self._apply)
        try:
            await self._streams.carry(watch)
        finally:
            if watch.is_proven:
                self._fails = 0

    def _apply(self, events: Sequence[kv.Event]) -> None:
        entries = dict(self._entries)
        for event in events:
            entry = entry_of(self._base, event.kv)
            if event.type == DELETE:
                entries.pop(entry.key, None)
            else:
                entries[entry.key] = entry
        self._entries = entries
        self.cell.set(Watched(entries))
