"""The configuration server's socket: private, and one agent's at a time."""

import asyncio
import contextlib
import stat
from datetime import timedelta
from pathlib import Path

import grpc.aio
import pytest
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

from mesh.adapters.ads import AdsServer
from mesh.adapters.clock import SystemClock
from mesh.errors import Conflict, OutsideError, UsageError
from mesh.model.snapshot import ResourceType
from tests.support.model_envoy import resource, snapshot

CLOCK = SystemClock()
Request = discovery_pb2.DeltaDiscoveryRequest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "ads"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def open_folder(folder: Path) -> Path:
    folder.chmod(0o755)
    return folder


async def test_socket_and_folder_are_their_owner_s(tmp_path: Path) -> None:
    socket = tmp_path / "made" / "ads.sock"
    async with asyncio.TaskGroup() as tasks:
        server = tasks.create_task(AdsServer(socket).run())
        await _connect(socket)
        assert stat.S_IMODE(socket.lstat().st_mode) == 0o600
        assert stat.S_IMODE(socket.parent.lstat().st_mode) == 0o700
        server.cancel()


async def test_a_second_agent_is_refused_and_the_first_serves_on(folder: Path) -> None:
    socket = folder / "ads.sock"
    async with asyncio.TaskGroup() as tasks:
        server = tasks.create_task(AdsServer(socket).run())
        await _connect(socket)
        with pytest.raises(Conflict, match="another agent"):
            await AdsServer(socket).run()
        await _connect(socket)
        server.cancel()


async def test_the_next_agent_takes_over_a_stale_socket(folder: Path) -> None:
    socket = folder / "ads.sock"
    for _ in range(2):
        async with asyncio.TaskGroup() as tasks:
            server = tasks.create_task(AdsServer(socket).run())
            await _connect(socket)
            server.cancel()
        socket.touch()


async def test_a_folder_that_others_can_enter_is_refused(open_folder: Path) -> None:
    with pytest.raises(OutsideError, match="open to others"):
        await AdsServer(open_folder / "ads.sock").run()


async def test_a_link_to_a_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(folder)
    with pytest.raises(OutsideError, match="not a folder"):
        await AdsServer(link / "ads.sock").run()


async def test_a_path_that_no_socket_may_have_is_refused(folder: Path) -> None:
    socket = folder / ("x" * 108)
    with pytest.raises(UsageError, match="107"):
        await AdsServer(socket).run()


async def test_a_stream_is_answered_and_a_newer_one_ends_it(folder: Path) -> None:
    socket = folder / "ads.sock"
    server = AdsServer(socket)
    secret = resource(ResourceType.SECRET, "leaf")
    assert server.publish(snapshot(secret)) == 1
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(server.run())
        await _connect(socket)
        async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
            stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
            first = stub.DeltaAggregatedResources(wait_for_ready=True)
            await first.write(Request(type_url="type.googleapis.com/unknown"))
            ask = Request(type_url=secret.type, resource_names_subscribe=["leaf", "absent"])
            await first.write(ask)
            answer = await first.read()
            assert [each.resource.value for each in answer.resources] == [secret.body]
            assert answer.resources[0].version == secret.version
            assert answer.resources[0].resource.type_url == secret.type
            assert list(answer.removed_resources) == ["absent"]

            second = stub.DeltaAggregatedResources()
            await second.write(ask)
            assert (await second.read()).nonce
            assert await first.read() is grpc.aio.EOF
        running.cancel()


async def test_of_streams_that_open_at_once_all_but_one_are_told_their_end(folder: Path) -> None:
    """An Envoy that gave up a frozen agent several times meets it again with all its streams at
    once. One that is ended in the midst of its first answer must not stay open with nobody behind.
    """
    socket = folder / "ads.sock"
    server = AdsServer(socket)
    secret = resource(ResourceType.SECRET, "leaf")
    server.publish(snapshot(secret))
    ask = Request(type_url=secret.type, resource_names_subscribe=["leaf"])

    async def ended(stub: ads_pb2_grpc.AggregatedDiscoveryServiceStub) -> None:
        call = stub.DeltaAggregatedResources()
        await call.write(ask)
        while await call.read() is not grpc.aio.EOF:
            pass

    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(server.run())
        await _connect(socket)
        async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
            stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
            for _ in range(10):
                streams = {tasks.create_task(ended(stub)) for _ in range(4)}
                async with asyncio.timeout(5):
                    while len(streams) > 1:
                        _, streams = await asyncio.wait(streams, return_when="FIRST_COMPLETED")
                for last in streams:
                    last.cancel()
                await asyncio.wait(streams)
        running.cancel()


async def _connect(socket: Path) -> None:
    """Wait until somebody listens."""
    async with asyncio.timeout(5):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_unix_connection(socket)
                writer.close()
                await writer.wait_closed()
                return
            await CLOCK.sleep(timedelta(milliseconds=1))
