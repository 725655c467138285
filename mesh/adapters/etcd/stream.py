"""One Watch call of etcd for all watches of a store.

A call costs etcd forty kilobytes, one more watch on it two: so a store has one call.

- Watches are told apart by ids that we choose and use once: what etcd still says of a watch that
  has ended reaches no other. A refusal has no id (-1) since etcd 3.5 and ends the call.
- A progress request, after 3 s without another request, is the heartbeat; 8 s of silence is a
  broken call. One answer (id -1) is for all watches, from etcd 3.5.8 on only while all have caught
  up, as a new one has after a tenth of a second. It may run ahead of events (before 3.5.8): it
  means "alive" and nothing else.
- A watch starts at its list's revision, not after it: the newest releases answer no progress
  request while a watch waits for a revision still to come (etcd pull request 20229), so a quiet
  store would look dead. Events of that revision come once more and are dropped, as old.
- A batch of events may come in fragments; it counts when it is whole.
- A call that ends without an error is a disconnect: so looks a member that shuts down.
- etcd checks permissions only when a watch is made, so all are made anew after half an hour.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from random import SystemRandom

import grpc
import grpc.aio
from aetcd.rpc import kv_pb2 as kv
from aetcd.rpc import rpc_pb2 as pb

from mesh.adapters.etcd.members import METADATA, Member, Members
from mesh.errors import OutsideError, Unavailable

HEARTBEAT_SECONDS = 3.0
SILENCE_SECONDS = 8.0
AGE_SECONDS = 1800.0
AGE_SPREAD = (0.8, 1.2)

_ALIVE = pb.WatchRequest(progress_request=pb.WatchProgressRequest())


class Silent(Unavailable):
    """A call on which nothing came for too long, no answer to the heartbeat either."""


@dataclass(slots=True, eq=False)
class Watch:
    """The keys from `start` to before `stop` after the `revision` of their list; `apply` is given
    what happens to them, in order and in whole batches.

    `is_made`: etcd said that it watches; `is_proven`: and anything at all since.
    """

    start: bytes
    stop: bytes
    revision: int
    apply: Callable[[Sequence[kv.Event]], None]
    is_made: bool = False
    is_proven: bool = False
    error: OutsideError | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)
    _batch: list[kv.Event] = field(default_factory=list)

    def receive(self, response: pb.WatchResponse) -> None:
        """Take in what etcd says of it alone."""
        self._batch.extend(response.events)
        if self._batch and not response.fragment:
            batch, self._batch = self._batch, []
            self.apply([event for event in batch if event.kv.mod_revision > self.revision])

    def end(self, error: OutsideError | None) -> None:
        """It is over: broken, or old."""
        self.error = error
        self.over.set()


class Streams:
    """The stream of a store: made for the first watch, ended with the last, and made anew for
    the next after it broke. Its task belongs to `tasks`.
    """

    def __init__(self, members: Members, tasks: asyncio.TaskGroup) -> None:
        self._members = members
        self._tasks = tasks
        self._open: tuple[Stream, asyncio.Task[None]] | None = None

    async def carry(self, watch: Watch) -> None:
        """Return when the watch is too old.

        Raises:
            Unavailable: it broke.
        """
        if self._open is None or self._open[1].done():
            made = Stream(self._members)
            self._open = made, self._tasks.create_task(made.run())
        stream, running = opened = self._open
        try:
            await stream.carry(watch)
        finally:
            # etcd answers no heartbeat where nothing is watched.
            if stream.is_empty:
                running.cancel()
                if self._open is opened:
                    self._open = None


class Stream:
    """One call, on the member that is in use now."""

    def __init__(self, members: Members) -> None:
        self._members = members
        self._member: Member = members.current
        self._watches: dict[int, Watch] = {}
        self._newest = 0
        self._requests: asyncio.Queue[pb.WatchRequest] = asyncio.Queue()

    @property
    def is_empty(self) -> bool:
        """Whether no watch is on it."""
        return not self._watches

    async def carry(self, watch: Watch) -> None:
        """As `Streams.carry`."""
        self._newest = number = self._newest + 1
        self._watches[number] = watch
        create = pb.WatchCreateRequest(
            watch_id=number,
            key=watch.start,
            range_end=watch.stop,
            start_revision=watch.revision,
            fragment=True,
        )
        self._requests.put_nowait(pb.WatchRequest(create_request=create))
        try:
            await watch.over.wait()
        finally:
            if self._watches.pop(number, None):  # left before its end
                cancel = pb.WatchCancelRequest(watch_id=number)
                self._requests.put_nowait(pb.WatchRequest(cancel_request=cancel))
        if watch.error is not None:
            raise watch.error

    async def run(self) -> None:
        """Serve the watches until all end: by an error, of old age, or by being cancelled."""
        call = self._member.watch.Watch(self._requested(), metadata=METADATA)
        error: OutsideError | None = None
        try:
            await self._read(call)
        except OutsideError as broken:
            error = broken
            self._members.pass_over(self._member)
        finally:
            call.cancel()
            for number in list(self._watches):
                self._watches.pop(number).end(error)

    async def _requested(self) -> AsyncIterator[pb.WatchRequest]:
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    request = await self._requests.get()
            except TimeoutError:
                request = _ALIVE
            yield request

    async def _read(
        self, call: grpc.aio.StreamStreamCall[pb.WatchRequest, pb.WatchResponse]
    ) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + AGE_SECONDS * SystemRandom().uniform(*AGE_SPREAD)
        where = f"etcd at {self._member.endpoint}"
        while loop.time() < end:
            try:
                async with asyncio.timeout(SILENCE_SECONDS):
                    response = await call.read()
            except TimeoutError as error:
                raise Silent(f"{where} has been silent for {SILENCE_SECONDS:.0f} s") from error
            except grpc.aio.AioRpcError as error:
                details = error.details() or error.code().name.lower()
                raise Unavailable(f"{where} ended a watch: {details}") from error
            if response is grpc.aio.EOF:
                raise Unavailable(f"{where} closed the connection")
            self._receive(response)

    def _receive(self, response: pb.WatchResponse) -> None:
        number = response.watch_id
        watch = self._watches.get(number)
        if response.canceled:
            self._cancelled(response)
        elif response.created:
            if not 0 < number <= self._newest:
                raise Unavailable("etcd names watches by itself: is a proxy before it?")
            if watch is not None:
                self._made(watch, response.header.revision)
        else:
            for each in self._watches.values():
                each.is_proven = each.is_made
            if watch is not None:
                watch.receive(response)

    def _made(self, watch: Watch, revision: int) -> None:
        if revision < watch.revision:
            # The call went to another connection than the list, and behind it is a member that
            # lags, or a store that was wiped or restored since.
            raise Unavailable("etcd went back to an older state")
        watch.is_made = True

    def _cancelled(self, response: pb.WatchResponse) -> None:
        # compact_revision: what lay between list and watch was compacted
        reason = f"etcd ended a watch: {response.cancel_reason or 'compacted'}"
        if response.watch_id < 0:
            raise Unavailable(reason)
        watch = self._watches.pop(response.watch_id, None)
        if watch is not None:  # else we have ended it ourselves
            watch.end(Unavailable(reason))
