"""What breaks beside a serving sidecar, and what its callers notice: nothing."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from mesh.adapters.envoy.admin import Admin
from mesh.errors import Conflict, Unavailable
from mesh.ports import Issuer, Store
from mesh.sidecar import agent
from tests.support.mesh_host import CLOCK, Host, more
from tests.support.revisions import QUICK

SERVICE = """
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
  rules:
    - {name: web-reads, action: allow, from: [{service: web}], to: [{methods: [GET]}]}
---
"""


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    async with Host() as host:
        await host.apply(SERVICE)
        yield host


def unreachable_store() -> Store:
    raise Unavailable("nobody answers")


def unreachable_issuer(_: str) -> Issuer:
    raise Unavailable("nobody signs")


async def test_agents_that_crash_lose_no_request_and_the_next_ones_adopt(host: Host) -> None:
    app = host.apps("api")["api"]
    api, web = await host.start("api", app), await host.start("web")
    envoys = (api.envoy, web.envoy)
    async with host.load(web, "api") as counts:
        await more(counts, 50)
        await api.crash()
        await web.crash()
        await more(counts, 200)
        api, web = await host.start("api", app), await host.start("web")
        await more(counts, 200)
        assert (await host.apply(SERVICE.replace("port: 80", "port: 81"))).is_done
        await more(counts, 50)
    assert set(counts) == {"200"}
    assert (api.envoy, web.envoy) == envoys
    assert (await host.ask(web, "api:81")).status == 200


async def test_a_killed_envoy_is_back_within_a_second(host: Host) -> None:
    await host.start("api", host.apps("api")["api"])
    web = await host.start("web")
    before = web.envoy
    os.kill(before, signal.SIGKILL)
    killed = CLOCK.monotonic()
    await host.until(web, "api")
    assert CLOCK.monotonic() - killed < 1.0
    assert web.envoy != before


async def test_a_host_starts_with_every_server_dead(host: Host) -> None:
    app = host.apps("api")["api"]
    api, web = await host.start("api", app), await host.start("web")
    await host.until(web, "api")
    for sidecar in (api, web):
        await sidecar.crash()
        os.kill(sidecar.envoy, signal.SIGKILL)
    dead = host.ports(store=unreachable_store, issuer=unreachable_issuer)
    began = CLOCK.monotonic()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(host.start("api", app, dead))
        started = tasks.create_task(host.start("web", None, dead))
    web = started.result()
    assert (await host.until(web, "api")).status == 200
    assert CLOCK.monotonic() - began < 2.0
    assert (await host.ask(web, "api", method="POST")).reason == "access-denied"
    assert web.ready.revision == 1


async def test_a_stopped_instance_fails_no_request(host: Host) -> None:
    apps = host.apps("one", "two")
    one = await host.start("api", apps["one"])
    two = await host.start("api", apps["two"])
    web = await host.start("web")
    async with host.load(web, "api") as counts:
        await more(counts, 200)
        await one.stop()
        await more(counts, 200)
        again = await host.start("api", apps["one"])
        await more(counts, 200)
        await two.stop()
        await more(counts, 200)
    assert set(counts) == {"200"}
    assert again.ready.id == one.ready.id
    assert not await host.store.scan(f"sidecars/{two.ready.id}/")
    assert not await host.store.scan(f"instances/default/api/{two.ready.id}/")


@pytest.mark.parametrize(("drain", "status"), [(timedelta(seconds=5), 200), (timedelta(), 503)])
async def test_open_requests_have_as_long_as_asked_when_it_ends(
    host: Host, drain: timedelta, status: int
) -> None:
    """The application takes a while; the request is on its way when the instance ends."""
    api = await host.start("api", host.apps("one")["one"], drain=drain)
    web = await host.start("web")
    await host.until(web, "api")
    async with asyncio.timeout(15), asyncio.TaskGroup() as tasks:
        slow = tasks.create_task(host.ask(web, "api", headers={"x-echo-delay": "1.5"}))
        while not (await Admin(api.folder / "admin.sock").load()).active:
            await CLOCK.sleep(timedelta(milliseconds=20))
        await api.stop()
    assert slow.result().status == status


async def test_certificates_of_seconds_rotate_under_load(host: Host) -> None:
    mesh = """
apiVersion: mesh/v1
kind: Mesh
metadata: {name: mesh}
spec: {certificates: {lifetime: 10s}}
"""
    await host.apply(SERVICE + mesh)
    api = await host.start("api", host.apps("api")["api"])
    web = await host.start("web")
    async with host.load(web, "api", connections=2) as counts:
        first = (await host.status(api.ready.id)).certificate_not_after
        assert first is not None
        assert first - CLOCK.now() < timedelta(seconds=11)
        ends = [first]
        for id in (api.ready.id, web.ready.id):
            status = await host.status(
                id, lambda s: (s.certificate_not_after or ends[0]) > ends[-1]
            )
            ends.append(status.certificate_not_after or ends[0])
        await more(counts, 50)
    assert set(counts) == {"200"}


async def test_who_knows_nothing_and_reaches_nobody_gives_up_in_time(host: Host) -> None:
    dead = host.ports(store=unreachable_store, issuer=unreachable_issuer)
    patience = timedelta(milliseconds=500)
    with pytest.raises(Unavailable, match=r"after 0\.5 s: nobody answers"):
        await agent.run(host.options("web"), dead, print, asyncio.Event(), patience)
    assert not list(host.state.glob("sidecars/*/envoy.json"))


async def test_a_sidecar_that_is_not_ready_yet_can_be_ended(host: Host) -> None:
    dead = host.ports(store=unreachable_store, issuer=unreachable_issuer)
    stop = asyncio.Event()
    stop.set()
    async with asyncio.timeout(10):
        await agent.run(host.options("web"), dead, print, stop)
    assert not list(host.state.glob("sidecars/*/envoy.json"))


async def test_one_id_has_one_agent(host: Host) -> None:
    await host.start("web", id="one")
    with pytest.raises(Conflict, match='"one" runs already'):
        await host.start("web", id="one")
    assert (await host.start("web")).ready.id != "one"


async def test_one_id_on_two_hosts_is_refused_and_the_first_one_keeps_its_calls(
    host: Host, tmp_path: Path
) -> None:
    apps = host.apps("first", "second")
    await host.start("api", apps["first"], id="one")
    web = await host.start("web")
    quick, other = replace(host.ports(), clock=QUICK), tmp_path / "other"
    with pytest.raises(Conflict, match='"one" reports from another host') as refused:
        await host.start("api", apps["second"], quick, id="one", state=other)
    assert "--id" in refused.value.hint
    assert (await host.until(web, "api")).said["backend"] == "first"
    assert not [*other.glob("sidecars/*/envoy.json")]


async def test_an_id_whose_host_is_gone_is_free_when_its_lease_has_run_out(
    host: Host, tmp_path: Path
) -> None:
    apps = host.apps("first", "second")
    await (await host.start("api", apps["first"], id="one")).crash()
    second = await host.start("api", apps["second"], id="one", state=tmp_path / "other")
    assert (await host.status("one")).inbound == second.ready.inbound
    await second.stop()


async def test_a_damaged_cache_is_a_clean_start(host: Host) -> None:
    api = await host.start("api", host.apps("api")["api"])
    web = await host.start("web")
    await web.stop()
    for file in web.folder.glob("*.json"):
        file.write_bytes(file.read_bytes()[:-10])
    again = await host.start("web")
    assert (await host.until(again, "api")).status == 200
    assert again.ready.id == web.ready.id
    assert (await host.status(api.ready.id)).revision == 1
