"""The Watch call that all watches of a store share, with an etcd that says what a test wants."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
from aetcd.rpc import kv_pb2 as kv
from aetcd.rpc import rpc_pb2 as pb
from aetcd.rpc import rpc_pb2_grpc as rpc

from mesh.adapters.clock import SystemClock
from mesh.adapters.etcd import EtcdSettings, EtcdStore
from mesh.ports import Watched

PATIENCE_SECONDS = 10.0
LISTED = 7
EVERYONE = -1


@dataclass
class Call:
    """One Watch call as the server has it; ended by `over`."""

    context: Any
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def request(self) -> pb.WatchRequest:
        """The next one, but for heartbeats; EOF where the client has ended the call."""
        while True:
            request = await self.context.read()
            if request is grpc.aio.EOF or not request.HasField("progress_request"):
                return request

    async def created(self, revision: int = LISTED) -> tuple[int, str]:
        """Answer the next request, which must make a watch: its id and key."""
        request = (await self.request()).create_request
        await self.say(request.watch_id, revision=revision, created=True)
        return request.watch_id, request.key.decode()

    async def say(
        self, number: int, *events: kv.Event, revision: int = LISTED, **more: object
    ) -> None:
        header = pb.ResponseHeader(revision=revision)
        response = pb.WatchResponse(header=header, watch_id=number, events=events, **more)
        await self.context.write(response)


class Scripted(rpc.KVServicer, rpc.WatchServicer):
    """An empty etcd at revision `LISTED`; its Watch calls are the test's to answer."""

    def __init__(self) -> None:
        self.calls: asyncio.Queue[Call] = asyncio.Queue()
        self.listed: list[str] = []

    async def Txn(self, request: pb.TxnRequest, context: object) -> pb.TxnResponse:
        return pb.TxnResponse(header=pb.ResponseHeader(revision=LISTED), succeeded=True)

    async def Range(self, request: pb.RangeRequest, context: object) -> pb.RangeResponse:
        self.listed.append(request.key.decode())
        return pb.RangeResponse(header=pb.ResponseHeader(revision=LISTED))

    async def Watch(self, requests: object, context: object) -> None:
        call = Call(context)
        self.calls.put_nowait(call)
        await call.over.wait()


@dataclass
class Bed:
    etcd: Scripted
    store: EtcdStore
    stack: AsyncExitStack

    async def watch(self, prefix: str) -> AsyncIterator[Watched]:
        """A watch that has begun: with nothing there."""
        states = await self.stack.enter_async_context(aclosing(self.store.watch(prefix)))
        assert await anext(states) == Watched({})
        return states


@asynccontextmanager
async def bed() -> AsyncIterator[Bed]:
    etcd, server = Scripted(), grpc.aio.server()
    rpc.add_KVServicer_to_server(etcd, server)
    rpc.add_WatchServicer_to_server(etcd, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    settings = EtcdSettings(endpoints=(f"127.0.0.1:{port}",))
    try:
        async with (
            asyncio.timeout(PATIENCE_SECONDS),
            EtcdStore(settings, clock=SystemClock()) as store,
            AsyncExitStack() as stack,
        ):
            yield Bed(etcd, store, stack)
    finally:
        await server.stop(None)


def event(key: str, value: str, revision: int) -> kv.Event:
    pair = kv.KeyValue(key=f"mesh/{key}".encode(), value=value.encode(), mod_revision=revision)
    return kv.Event(kv=pair)


async def values(states: AsyncIterator[Watched]) -> dict[str, str]:
    """The next state; none is lost."""
    state = await anext(states)
    assert state.lost is None
    return {key: entry.value.decode() for key, entry in state.entries.items()}


async def test_watches_share_one_call_and_each_gets_its_own() -> None:
    async with bed() as made:
        first, second = await made.watch("a/"), await made.watch("b/")
        call = await made.etcd.calls.get()
        (one, a), (two, b) = await call.created(), await call.created()
        assert (a, b) == ("mesh/a/", "mesh/b/")
        assert one != two
        await call.say(two, event("b/1", "second", 8), revision=8)
        await call.say(one, event("a/1", "first", 9), revision=9)
        assert await values(first) == {"a/1": "first"}
        assert await values(second) == {"b/1": "second"}
        assert made.etcd.calls.empty()


async def test_what_is_said_of_a_watch_that_was_left_reaches_no_other() -> None:
    async with bed() as made:
        left, stays = await made.watch("a/"), await made.watch("b/")
        call = await made.etcd.calls.get()
        (one, _), (two, _) = await call.created(), await call.created()
        await left.aclose()
        assert (await call.request()).cancel_request.watch_id == one
        again = await made.watch("a/")
        three, _ = await call.created()
        assert three not in (one, two)
        await call.say(one, event("a/1", "late", 8), revision=8)
        await call.say(one, revision=8, canceled=True)
        await call.say(three, event("a/1", "new", 9), revision=9)
        await call.say(two, event("b/1", "other", 10), revision=10)
        assert await values(again) == {"a/1": "new"}
        assert await values(stays) == {"b/1": "other"}
        assert made.etcd.listed == ["mesh/a/", "mesh/b/", "mesh/a/"]


async def test_a_watch_that_etcd_ends_is_made_anew_on_the_same_call() -> None:
    async with bed() as made:
        first, second = await made.watch("a/"), await made.watch("b/")
        call = await made.etcd.calls.get()
        (one, _), (two, _) = await call.created(), await call.created()
        await call.say(one, revision=20, canceled=True, compact_revision=15)
        three, key = await call.created()
        assert key == "mesh/a/"
        await call.say(two, event("b/1", "2", 21), revision=21)
        await call.say(three, event("a/1", "1", 22), revision=22)
        assert await values(first) == {"a/1": "1"}
        assert await values(second) == {"b/1": "2"}
        assert made.etcd.listed == ["mesh/a/", "mesh/b/", "mesh/a/"]


async def test_a_refusal_without_an_id_ends_the_call_for_all() -> None:
    async with bed() as made:
        first, second = await made.watch("a/"), await made.watch("b/")
        call = await made.etcd.calls.get()
        await call.created()
        await call.request()
        await call.say(EVERYONE, created=True, canceled=True, cancel_reason="permission denied")
        assert await call.request() is grpc.aio.EOF
        call = await made.etcd.calls.get()
        made_anew = dict([await call.created(), await call.created()])
        for number, key in made_anew.items():
            name = key.removeprefix("mesh/") + "1"
            await call.say(number, event(name, "x", 8), revision=8)
        assert await values(first) == {"a/1": "x"}
        assert await values(second) == {"b/1": "x"}


async def test_a_member_behind_the_list_is_left() -> None:
    async with bed() as made:
        states = await made.watch("a/")
        call = await made.etcd.calls.get()
        await call.created(revision=LISTED - 1)
        assert await call.request() is grpc.aio.EOF
        call = await made.etcd.calls.get()
        number, _ = await call.created()
        await call.say(number, event("a/1", "1", 8), revision=8)
        assert await values(states) == {"a/1": "1"}


async def test_ids_that_are_not_ours_are_told() -> None:
    """As etcd's own gRPC proxy gives them: watches would be taken for others."""
    async with bed() as made:
        states = await made.watch("a/")
        while True:
            call = await made.etcd.calls.get()
            await call.request()
            await call.say(0, created=True)
            assert await call.request() is grpc.aio.EOF
            if made.etcd.listed.count("mesh/a/") > 1:
                break
        assert "is a proxy before it?" in ((await anext(states)).lost or "")


async def test_a_batch_in_fragments_counts_when_it_is_whole() -> None:
    async with bed() as made:
        first, second = await made.watch("a/"), await made.watch("b/")
        call = await made.etcd.calls.get()
        (one, _), (two, _) = await call.created(), await call.created()
        await call.say(one, event("a/1", "1", 8), revision=8, fragment=True)
        await call.say(two, event("b/1", "1", 8), revision=8)
        assert await values(second) == {"b/1": "1"}
        await call.say(one, event("a/2", "2", 8), revision=8)
        assert await values(first) == {"a/1": "1", "a/2": "2"}


async def test_what_the_list_showed_already_changes_nothing() -> None:
    async with bed() as made:
        states = await made.watch("a/")
        call = await made.etcd.calls.get()
        number, _ = await call.created()
        await call.say(number, event("a/1", "old", LISTED))
        await call.say(number, event("a/2", "new", LISTED + 1), revision=LISTED + 1)
        assert await values(states) == {"a/2": "new"}


async def test_the_last_watch_ends_the_call_and_the_next_makes_one() -> None:
    async with bed() as made:
        for _ in range(2):
            states = await made.watch("a/")
            call = await made.etcd.calls.get()
            await call.created()
            await states.aclose()
            while await call.request() is not grpc.aio.EOF:
                continue


async def test_a_broken_call_is_mended_for_all_before_anybody_need_know() -> None:
    async with bed() as made:
        first, second = await made.watch("a/"), await made.watch("b/")
        call = await made.etcd.calls.get()
        await call.created()
        await call.created()
        await call.say(EVERYONE)
        call.over.set()
        call = await made.etcd.calls.get()
        made_anew = dict([await call.created(), await call.created()])
        for number, key in made_anew.items():
            name = key.removeprefix("mesh/") + "1"
            await call.say(number, event(name, "x", 8), revision=8)
        assert await values(first) == {"a/1": "x"}
        assert await values(second) == {"b/1": "x"}
        assert made.etcd.calls.empty()
