"""TCP services through loopback ports of their own, and what happens when Envoy refuses one."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from mesh.errors import PortInUse
from mesh.model.identity import ServiceName
from mesh.model.policy import Address
from tests.support.mesh_host import Host

LEDGER = ServiceName("shop", "ledger")
DOCUMENTS = """
apiVersion: mesh/v1
kind: Service
metadata: {name: api}
spec: {protocol: http, port: 80}
---
apiVersion: mesh/v1
kind: AccessPolicy
metadata: {name: api}
spec:
  targetRefs: [{kind: Service, name: api}]
  rules: [{name: web, action: allow, from: [{service: web}]}]
---
"""
TCP = """
apiVersion: mesh/v1
kind: Service
metadata: {name: ledger, namespace: shop}
spec: {protocol: tcp, port: 9000}
---
apiVersion: mesh/v1
kind: AccessPolicy
metadata: {name: ledger, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: ledger}]
  rules: [{name: web, action: allow, from: [{service: CALLER, namespace: default}]}]
"""


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    async with Host() as host:
        yield host


async def say(address: Address, line: str) -> str:
    """What a TCP application answers to a line; empty where it hangs up."""
    reader, writer = await asyncio.open_connection(address.address, address.port)
    writer.write(f"{line}\n".encode())
    async with asyncio.timeout(10):
        answer = await reader.readline()
    writer.close()
    return answer.decode().strip()


async def test_a_tcp_service_has_a_port_that_stays(host: Host) -> None:
    await host.apply(DOCUMENTS + TCP.replace("CALLER", "web"))
    await host.start("shop/ledger", await host.lines("ledger"))
    web = await host.start("web")
    address = web.ready.upstreams[LEDGER]
    assert await say(address, "hello") == "ledger hello"
    assert (await host.status(web.ready.id, lambda s: s.revision == 1)).upstreams[LEDGER] == address
    await web.stop()
    again = await host.start("web")
    assert again.ready.upstreams == {LEDGER: address}
    assert await say(address, "again") == "ledger again"


async def test_a_tcp_service_comes_and_goes_with_its_policy(host: Host) -> None:
    await host.apply(DOCUMENTS + TCP.replace("CALLER", "nobody"))
    await host.start("shop/ledger", await host.lines("ledger"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        pin = Address("127.0.0.1", free.getsockname()[1])
    web = await host.start("web", upstreams={LEDGER: pin})
    assert web.ready.upstreams == {}
    outcome = await host.apply(DOCUMENTS + TCP.replace("CALLER", "web"))
    assert outcome.is_done
    assert await say(pin, "hello") == "ledger hello"
    await host.apply(DOCUMENTS + TCP.replace("CALLER", "nobody"))
    with pytest.raises(ConnectionError):
        await say(pin, "hello")


async def test_what_envoy_refuses_is_contained_and_named(host: Host) -> None:
    await host.apply(DOCUMENTS)
    await host.start("api", host.apps("api")["api"])
    with socket.create_server(("127.0.0.1", 0)) as free:
        pin = Address("127.0.0.1", free.getsockname()[1])
    web = await host.start("web", upstreams={LEDGER: pin})
    with socket.create_server((pin.address, pin.port)):
        text = DOCUMENTS.replace("port: 80", "port: 81") + TCP.replace("CALLER", "web")
        outcome = await host.apply(text)
        assert outcome.acceptance.rejected == (web.ready.id,)
        status = await host.status(web.ready.id, lambda s: bool(s.rejections))
    (rejection,) = status.rejections
    assert rejection.code == "rejected-by-envoy"
    assert rejection.position.file.endswith("policies.yaml")
    line = rejection.position.line
    assert text.splitlines()[line - 1 : line + 1] == ["apiVersion: mesh/v1", "kind: Service"]
    assert outcome.acceptance.diagnostics == (rejection,)
    assert "ledger" in rejection.message
    assert (status.revision, status.seen) == (1, 2)
    assert (await host.ask(web, "api:81")).status == 200  # the rest is in force


async def test_a_port_that_was_taken_is_listened_on_when_it_is_free(host: Host) -> None:
    await host.apply(DOCUMENTS)
    await host.start("shop/ledger", await host.lines("ledger"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        pin = Address("127.0.0.1", free.getsockname()[1])
    web = await host.start("web", upstreams={LEDGER: pin})
    with socket.create_server((pin.address, pin.port)):
        outcome = await host.apply(DOCUMENTS + TCP.replace("CALLER", "web"))
        assert outcome.acceptance.rejected == (web.ready.id,)
        (rejection,) = (await host.status(web.ready.id, lambda s: bool(s.rejections))).rejections
        assert f"127.0.0.1:{pin.port}" in rejection.message
        assert "tried again until the port is free" in rejection.hint
    healed = await host.status(web.ready.id, lambda s: not s.rejections)
    assert healed.revision == outcome.revision
    assert await say(pin, "hello") == "ledger hello"


async def test_a_port_in_use_is_refused_before_anything_starts(host: Host) -> None:
    await host.apply(DOCUMENTS)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=rf"127\.0\.0\.1:{port} .*--outbound"):
            await host.start("web", outbound=Address("127.0.0.1", port))
    assert not list(host.state.glob("sidecars/*/envoy.json"))
