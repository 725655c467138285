"""An etcd that is connected and says nothing, as no signal to a process can make one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import grpc.aio
from aetcd.rpc import rpc_pb2 as pb
from aetcd.rpc import rpc_pb2_grpc as rpc

from mesh.adapters.clock import SystemClock
from mesh.adapters.etcd import EtcdSettings, EtcdStore
from mesh.adapters.etcd.follower import PROOF_SECONDS
from mesh.adapters.etcd.stream import SILENCE_SECONDS

HEADER = pb.ResponseHeader(revision=7)


class Quiet(rpc.KVServicer, rpc.WatchServicer):
    """Answers reads until `dumb`, makes watches, and never says a word on them."""

    def __init__(self) -> None:
        self.dumb = False
        self.is_watched = asyncio.Event()
        self.is_watched_again = asyncio.Event()

    async def Txn(self, request: pb.TxnRequest, context: object) -> pb.TxnResponse:
        return pb.TxnResponse(header=HEADER, succeeded=True)

    async def Range(self, request: pb.RangeRequest, context: object) -> pb.RangeResponse:
        if self.dumb:
            await asyncio.Event().wait()
        return pb.RangeResponse(header=HEADER)

    async def Watch(
        self, requests: AsyncIterator[pb.WatchRequest], context: object
    ) -> AsyncIterator[pb.WatchResponse]:
        (self.is_watched_again if self.is_watched.is_set() else self.is_watched).set()
        yield pb.WatchResponse(header=HEADER, created=True)
        async for _ in requests:
            continue


@asynccontextmanager
async def serving(quiet: Quiet) -> AsyncIterator[EtcdStore]:
    server = grpc.aio.server()
    rpc.add_KVServicer_to_server(quiet, server)
    rpc.add_WatchServicer_to_server(quiet, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        settings = EtcdSettings(endpoints=(f"127.0.0.1:{port}",))
        async with EtcdStore(settings, clock=SystemClock()) as store:
            yield store
    finally:
        await server.stop(None)


async def test_silence_alone_is_no_loss_and_silence_of_everything_is_one_in_time() -> None:
    """First an old etcd's: no answer to progress requests, reads work; then a dead one's."""
    loop = asyncio.get_running_loop()
    quiet = Quiet()
    async with serving(quiet) as store, aclosing(store.watch("")) as states:
        assert (await anext(states)).lost is None
        news = asyncio.TaskGroup()
        async with news, asyncio.timeout(4 * SILENCE_SECONDS):
            next_state = news.create_task(anext(states))
            await quiet.is_watched_again.wait()
            assert not next_state.done()
            quiet.dumb = True
            start = loop.time()
            assert (await next_state).lost is not None
            assert loop.time() - start < SILENCE_SECONDS + PROOF_SECONDS + 1
