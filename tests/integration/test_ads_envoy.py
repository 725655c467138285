"""The configuration server and a real Envoy: what each measured fact of it demands."""

import asyncio
import json
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest

from mesh.model.snapshot import Resource, ResourceType
from tests.support.envoy_process import Rig, within
from tests.support.envoy_resources import (
    access,
    bad_cluster,
    certificate,
    cluster,
    endpoints,
    http_listener,
    route,
    snapshot,
    tcp_listener,
)
from tests.support.tls import Authority

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with Rig() as rig:
        yield rig


async def test_what_is_acknowledged_is_live(rig: Rig) -> None:
    for name in ("first", "second", "first"):
        outcome = await rig.publish(*rig.http(name))
        assert outcome.revision == rig.revision
        assert outcome.rejections == ()
        assert await rig.get() == (200, name)


async def test_an_empty_snapshot_makes_envoy_ready(rig: Rig) -> None:
    started = time.monotonic()
    await rig.publish()
    async with asyncio.timeout(5):
        await rig.envoy.wait_ready()
    assert time.monotonic() - started < 5, "without an answer it takes 15 s"


async def test_clusters_come_and_go_under_load_without_a_failure(rig: Rig) -> None:
    await rig.publish(*rig.http("c0"))
    async with rig.load() as load:
        for n in range(1, 40):
            # Each is made, used and deleted; every third publish does not wait for the last.
            rig.ads.publish(snapshot(rig.http(f"c{n % 4}")))
            if n % 3:
                await rig.publish(*rig.http(f"c{n % 4}"))
                await load.more(8)
        await rig.publish(*rig.http("last"))
        await load.more(8)
    assert not load.failures
    assert load.answers["last"] > 0
    assert await rig.statistic("cluster_manager.active_clusters") == 2, "ads and the last one"


async def test_a_changed_cluster_is_warm_at_once(rig: Rig) -> None:
    """Envoy does not ask for the endpoints of a changed cluster: unsent, it would wait 5 s."""
    await rig.publish(*rig.http("app"))
    async with rig.load() as load:
        started = time.monotonic()
        for seconds in range(2, 12):
            await rig.publish(*rig.http("app", connect_timeout=f"{seconds}s"))
        assert time.monotonic() - started < 3
    assert not load.failures
    assert await rig.statistic("cluster_manager.cluster_modified") == 10


async def test_a_refused_cluster_harms_no_other(rig: Rig) -> None:
    await rig.publish(*rig.http("old"))
    wanted = (
        cluster("good"),
        endpoints("good", [rig.app_port]),
        bad_cluster("bad"),
        endpoints("bad", [rig.app_port]),
        http_listener("web", rig.port, "web"),
        route("web", "bad"),
    )
    async with rig.load() as load:
        outcome = await rig.publish(*wanted)
    assert not load.failures
    assert [(each.type, each.name) for each in outcome.rejections] == [
        (ResourceType.CLUSTER, "bad"),
        (ResourceType.ROUTE, "web"),
    ]
    assert "load balancer factory" in outcome.rejections[0].detail
    assert 'cluster "bad"' in outcome.rejections[1].detail
    assert await rig.get() == (200, "old")

    refused = await rig.statistic("cluster_manager.cds.update_rejected")
    again = await rig.publish(*wanted)
    assert again.rejections == outcome.rejections
    assert again.nacks == outcome.nacks >= 1
    assert await rig.statistic("cluster_manager.cds.update_rejected") == refused, "not sent again"

    healed = await rig.publish(*rig.http("good"))
    assert healed.rejections == ()
    assert await rig.get() == (200, "good")


async def test_a_listener_whose_port_is_taken_is_reported(rig: Rig) -> None:
    taken = tcp_listener("tcp", rig.app_port, "app")
    outcome = await rig.publish(*rig.http("app"), taken)
    assert [(each.type, each.name) for each in outcome.rejections] == [
        (ResourceType.LISTENER, "tcp")
    ]
    assert "in use" in outcome.rejections[0].detail
    assert await rig.get() == (200, "app")


async def test_access_rules_change_on_open_connections(rig: Rig) -> None:
    def guarded(*, allow: bool) -> tuple[Resource, ...]:
        listener = http_listener("web", rig.port, "web", extension="access")
        return (*rig.http("app")[:2], listener, route("web", "app"), access("access", allow=allow))

    for allow in (True, False, True):
        await rig.publish(*guarded(allow=allow))
        assert (await rig.get())[0] == (200 if allow else 403)
    assert await rig.statistic("listener_manager.listener_modified") == 0


async def test_a_killed_agent_costs_no_request(rig: Rig) -> None:
    await rig.stop_server()
    agent = await _agent(rig)
    async with rig.load() as load:
        for _ in range(2):
            agent.kill()
            await agent.wait()
            await load.more(50)
            agent = await _agent(rig)
        agent.kill()
        await agent.wait()
        # The next agent is this process; it wants something else.
        rig.start_server()
        await within(timedelta(seconds=5), _is_listening(rig))
        started = time.monotonic()
        await rig.publish(*rig.http("next"))
        assert time.monotonic() - started < 1, "Envoy reconnects within half a second"
        await load.more(50)
    assert not load.failures
    assert load.answers["next"] > 0
    assert await rig.statistic("listener_manager.listener_modified") == 0


async def test_a_reconnect_with_equal_versions_changes_nothing(rig: Rig) -> None:
    await rig.publish(*rig.http("app"))
    before = await _changes(rig)
    for _ in range(3):
        await rig.stop_server()
        rig.start_server()
        await rig.publish(*rig.http("app"))
    assert await _changes(rig) == before


async def test_a_rotated_certificate_is_presented_at_once(rig: Rig, tmp_path: Path) -> None:
    authority = Authority(tmp_path)

    def serving(host: str) -> tuple[Resource, ...]:
        files = authority.issue(host, host)
        listener = http_listener("web", rig.port, "web", secret="leaf")
        leaf = certificate("leaf", files.cert.read_bytes(), files.key.read_bytes())
        return (*rig.http("app")[:2], listener, route("web", "app"), leaf)

    trust = ssl.create_default_context(cafile=str(authority.file))
    url = f"https://127.0.0.1:{rig.port}/"
    await rig.publish(*serving("one.test"))
    async with aiohttp.ClientSession() as session:
        for host in ("one.test", "two.test", "three.test"):
            if host != "one.test":
                await rig.publish(*serving(host))
            connection = aiohttp.TCPConnector(ssl=trust)
            async with (
                aiohttp.ClientSession(connector=connection) as fresh,
                fresh.get(url, server_hostname=host) as response,
            ):
                assert response.status == 200
            # The connection from before the rotation goes on.
            async with session.get(url, ssl=trust, server_hostname="one.test") as response:
                assert response.status == 200
    assert await rig.statistic("listener_manager.listener_modified") == 0


async def test_a_refusal_does_not_repeat_what_was_refused(rig: Rig) -> None:
    """Envoy quotes a message that breaks a constraint in full, and one may hold a key."""
    outcome = await rig.publish(*rig.http("app"), cluster("zero", connect_timeout="0s"))
    (rejection,) = outcome.rejections
    assert rejection.name == "zero"
    assert "value must be greater than 0s" in rejection.detail
    assert "eds_cluster_config" not in rejection.detail


async def _agent(rig: Rig) -> asyncio.subprocess.Process:
    """An agent of its own process that has brought Envoy up to date."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.support.ads_agent", rig.ads_socket, str(rig.port), str(rig.app_port)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    async with asyncio.timeout(10):
        while (await process.stdout.readline()).strip() != b"1":
            pass
    return process


def _is_listening(rig: Rig) -> Callable[[], Awaitable[bool]]:
    async def connects() -> bool:
        try:
            _, writer = await asyncio.open_unix_connection(rig.ads_socket)
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
        return True

    return connects


async def _changes(rig: Rig) -> dict[str, int]:
    text = await rig.admin("/stats?format=json&filter=(cluster|listener)_(added|modified|removed)$")
    return {each["name"]: each["value"] for each in json.loads(text)["stats"]}
