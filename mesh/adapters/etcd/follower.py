"""The watch loop: a prefix's state kept in a cell, over every way in which a watch can end.

List the prefix, then watch from the list's revision on; whatever ends the watch, list again. A
list is linearizable and is the truth: nothing can be lost by resuming at a wrong place, nor by a
store that was wiped, restored or compacted meanwhile.

- Progress requests every 3 s are the heartbeat; 8 s of silence is a broken watch. What answers a
  request may run ahead of events (etcd before 3.5.8): it means "alive" and nothing else.
- The watch starts at the list's revision, not after it: the newest releases answer no progress
  request while a watch waits for a revision still to come (etcd pull request 20229), so a quiet
  store would look dead. Events of that revision come once more and are dropped, as old.
- 3.4.25 to 3.4.30 do not answer until the first event (etcd pull request 17567). So silence alone
  is no loss: it is one if a list fails too.
- A batch of events may come in fragments; it counts when it is whole.
- A stream that ends without an error is a disconnect: so looks a member that shuts down.
- etcd checks permissions only when a watch is made, so each is made anew after half an hour.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta
from random import SystemRandom

import grpc
import grpc.aio
from aetcd.rpc import kv_pb2 as kv
from aetcd.rpc import rpc_pb2 as pb

from mesh.adapters.etcd.members import METADATA, Members
from mesh.adapters.etcd.ranges import entry_of, range_of, scan
from mesh.errors import OutsideError, Unavailable
from mesh.latest import Latest
from mesh.ports import Clock, Entry, Watched

HEARTBEAT = timedelta(seconds=3)
SILENCE_SECONDS = 8.0
AGE_SECONDS = 1800.0
AGE_SPREAD = (0.8, 1.2)
PROOF_SECONDS = 1.5
DELETE = 1


class Silent(Unavailable):
    """A watch on which nothing came for too long, no answer to the heartbeat either."""


class Follower:
    """Keeps `cell` at the newest state of `prefix` while `run` runs.

    The cell is None before the first state, and again when `is_over`.
    """

    def __init__(self, members: Members, base: bytes, prefix: str, clock: Clock) -> None:
        self.cell: Latest[Watched | None] = Latest(None)
        self.is_over = False
        self._members = members
        self._base = base
        self._prefix = prefix
        self._clock = clock
        self._random = SystemRandom()
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
        member = self._members.current
        call = member.watch.Watch(self._requests(revision), metadata=METADATA)
        try:
            await self._receive(call, revision)
        except TimeoutError as error:
            self._members.pass_over(member)
            raise Silent(
                f"etcd at {member.endpoint} has been silent for {SILENCE_SECONDS:.0f} s"
            ) from error
        except grpc.aio.AioRpcError as error:
            self._members.pass_over(member)
            details = error.details() or error.code().name.lower()
            raise Unavailable(f"etcd at {member.endpoint} ended a watch: {details}") from error
        finally:
            call.cancel()

    async def _requests(self, revision: int) -> AsyncIterator[pb.WatchRequest]:
        start, end = range_of(self._base, self._prefix)
        yield pb.WatchRequest(
            create_request=pb.WatchCreateRequest(
                key=start,
                range_end=end,
                start_revision=revision,
                progress_notify=True,
                fragment=True,
            )
        )
        while True:
            await self._clock.sleep(HEARTBEAT)
            yield pb.WatchRequest(progress_request=pb.WatchProgressRequest())

    async def _receive(
        self, call: grpc.aio.StreamStreamCall[pb.WatchRequest, pb.WatchResponse], revision: int
    ) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + AGE_SECONDS * self._random.uniform(*AGE_SPREAD)
        batch: list[kv.Event] = []
        while loop.time() < end:
            async with asyncio.timeout(SILENCE_SECONDS):
                read = await call.read()
            if read is grpc.aio.EOF:
                raise Unavailable("etcd closed the connection")
            response: pb.WatchResponse = read
            if response.canceled:
                # compact_revision: what lay between list and watch was compacted
                raise Unavailable(f"etcd ended a watch: {response.cancel_reason or 'compacted'}")
            if response.created:
                if response.header.revision < revision:
                    # gRPC took the request to another connection: behind it is a store that was
                    # wiped or restored since the list.
                    raise Unavailable("etcd went back to an older state")
                continue
            self._fails = 0
            batch.extend(response.events)
            if batch and not response.fragment:
                self._apply(event for event in batch if event.kv.mod_revision > revision)
                batch = []

    def _apply(self, events: Iterable[kv.Event]) -> None:
        entries = dict(self._entries)
        for event in events:
            entry = entry_of(self._base, event.kv)
            if event.type == DELETE:
                entries.pop(entry.key, None)
            else:
                entries[entry.key] = entry
        self._entries = entries
        self.cell.set(Watched(entries))
