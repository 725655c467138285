"""TCP services between two real sidecars: by a loopback port, with identities, not requests."""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from mesh.model.policy import Action, Address, Protocol
from tests.support import sidecars
from tests.support.envoy import RunningEnvoy
from tests.support.policies import access, external, policies, rule, service

GREETING = b"hello\n"


@contextmanager
def database() -> Iterator[int]:
    """A server that speaks first, then echoes; gives its port."""
    started: threading.Event = threading.Event()
    state: list[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(GREETING)
        while data := await reader.read(1024):
            writer.write(data)
        writer.close()

    async def main() -> None:
        stop = asyncio.Event()
        server = await asyncio.start_server(serve, sidecars.HOST, 0)
        port = server.sockets[0].getsockname()[1]
        state.append((asyncio.get_running_loop(), stop, port))
        started.set()
        await stop.wait()
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert started.wait(10)
    loop, stop, port = state[0]
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mapping[str, RunningEnvoy]]:
    with database() as port:
        set_of_policies = policies(
            service("db", Protocol.TCP, 5432),
            external("legacy", Address(sidecars.HOST, port), protocol=Protocol.TCP, port=5432),
            access(
                "db",
                "db",
                rule(Action.ALLOW, "web", "ops/*", called="clients"),
                rule(Action.AUDIT, "guest", called="guests"),
                rule(Action.DENY, "ops/bad", called="no-bad"),
            ),
            access("legacy", "external:legacy", rule(Action.ALLOW, "web", called="web")),
        )
        with sidecars.running(
            set_of_policies,
            apps={"db": port},
            callers=("web", "ops/tool", "ops/bad", "guest"),
            upstreams=("db", "legacy"),
        ) as found:
            yield found


def talk(
    mesh: Mapping[str, RunningEnvoy], caller: str, service: str = "service/default/db"
) -> bytes:
    return sidecars.exchange(mesh[caller].ports[f"upstream/{service}"], b"ping", 10)


@pytest.mark.parametrize("caller", ["web", "ops/tool"])
def test_who_is_allowed_talks(mesh: Mapping[str, RunningEnvoy], caller: str) -> None:
    assert talk(mesh, caller) == b"hello\nping"


@pytest.mark.parametrize("caller", ["ops/bad", "guest"])
def test_who_is_not_allowed_gets_not_a_byte(mesh: Mapping[str, RunningEnvoy], caller: str) -> None:
    assert talk(mesh, caller) == b""


def test_outside_the_mesh_the_callers_sidecar_decides(mesh: Mapping[str, RunningEnvoy]) -> None:
    assert talk(mesh, "web", "external/default/legacy") == b"hello\nping"
    assert "upstream/external/default/legacy" not in mesh["ops/tool"].ports


def test_connections_are_counted(mesh: Mapping[str, RunningEnvoy]) -> None:
    talk(mesh, "web")
    assert mesh["db"].stats("tcp.inbound.rbac.")["allowed"] > 0
