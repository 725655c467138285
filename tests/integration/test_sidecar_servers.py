"""The same mesh on real etcd and Consul: the documents, the calls, and the servers' bad days."""

import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mesh.adapters.consul import ConsulDiscovery, ConsulSettings
from mesh.adapters.etcd import EtcdSettings, EtcdStore
from mesh.ports import Discovery, Store
from tests.support import servers
from tests.support.mesh_host import CLOCK, Host, Running, Spawned, more
from tests.support.servers import Server

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
  rules: [{name: web-uses, action: allow, from: [{service: web}], to: [{methods: [METHOD]}]}]
"""
READS = DOCUMENTS.replace("METHOD", "GET")


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Server]:
    with servers.etcd(tmp_path) as server:
        yield server


@pytest.fixture
def consul(tmp_path: Path) -> Iterator[Server]:
    with servers.consul(tmp_path) as server:
        yield server


@pytest.fixture
async def host(etcd: Server, consul: Server) -> AsyncIterator[Host]:
    def store() -> Store:
        return EtcdStore(EtcdSettings(endpoints=(etcd.endpoint,)), clock=CLOCK)

    def discovery(_: Store) -> Discovery:
        return ConsulDiscovery(ConsulSettings(address=consul.endpoint), clock=CLOCK)

    environment = {
        "MESH_STORE": f"etcd://{etcd.endpoint}/mesh",
        "MESH_DISCOVERY": f"consul://{consul.endpoint}",
    }
    async with Host(store, discovery, environment) as host:
        yield host


async def test_the_same_documents_serve_on_etcd_and_consul(host: Host) -> None:
    await host.apply(READS)
    api = await host.spawn("api", host.apps("api")["api"])
    web = await host.start("web")
    assert (await host.until(web, "api")).status == 200
    assert (await host.apply(DOCUMENTS.replace("METHOD", "POST"))).is_done
    assert (await host.ask(web, "api")).reason == "access-denied"
    assert (await host.ask(web, "api", method="POST")).status == 200
    assert api.ready["revision"] == 1


async def test_servers_that_die_cost_no_request_and_are_found_again(
    host: Host, etcd: Server, consul: Server
) -> None:
    await host.apply(READS)
    apps = host.apps("api", "other")
    await host.start("api", apps["api"])
    web = await host.start("web")
    await host.until(web, "api")
    async with host.load(web, "api") as counts:
        await more(counts, 100)
        etcd.kill()
        consul.kill()
        await more(counts, 500)
        etcd.start()
        consul.start()
        etcd.wait_ready()
        consul.wait_ready()
        await more(counts, 100)
    assert set(counts) == {"200"}
    assert (await host.apply(DOCUMENTS.replace("METHOD", "POST"), within=20)).is_done
    assert (await host.ask(web, "api")).reason == "access-denied"


async def called(host: Host) -> tuple[Spawned, Running]:
    """api, as a process of its own, and web that calls it."""
    await host.apply(READS)
    api = await host.spawn("api", host.apps("api")["api"])
    web = await host.start("web")
    await host.until(web, "api")
    return api, web


async def test_an_agent_that_starts_while_consul_is_away_keeps_who_it_called(
    host: Host, consul: Server
) -> None:
    _, web = await called(host)
    async with host.load(web, "api") as counts:
        await more(counts, 200)
        consul.kill()
        await web.crash()
        web = await host.start("web")
        assert (await host.apply(DOCUMENTS.replace("METHOD", "GET, PUT"))).is_done
        await more(counts, 500)
    assert set(counts) == {"200"}


async def test_an_agent_that_starts_at_an_emptied_consul_keeps_who_it_called(
    host: Host, consul: Server
) -> None:
    api, web = await called(host)
    async with host.load(web, "api") as counts:
        await more(counts, 200)
        consul.kill()
        await web.crash()
        os.kill(api.process.pid, signal.SIGSTOP)  # nobody registers it anew
        consul.start()
        consul.wait_ready()
        web = await host.start("web")
        await more(counts, 500)
        os.kill(api.process.pid, signal.SIGCONT)
        await more(counts, 100)
    assert set(counts) == {"200"}


async def test_who_calls_nobody_is_stale_too_while_consul_does_not_know_it(
    host: Host, consul: Server
) -> None:
    await host.apply(READS)
    api = await host.start("api", host.apps("api")["api"])
    await host.status(api.ready.id, lambda status: status.stale is None)
    consul.kill()
    status = await host.status(api.ready.id, lambda status: status.stale is not None)
    assert status.stale is not None
    assert consul.endpoint in status.stale
    consul.start()
    await host.status(api.ready.id, lambda status: status.stale is None)
