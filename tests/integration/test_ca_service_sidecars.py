"""Hosts that get their certificates from `mesh ca serve`, and days when it is away."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mesh.adapters.ca_client import ServiceIssuer
from mesh.adapters.embedded import EmbeddedStore
from mesh.authority.registry import Registry
from mesh.ca.request import new_key_and_csr
from mesh.errors import Denied, Unavailable
from mesh.model.identity import Identity, ServiceName
from mesh.model.policy import Address
from mesh.model.status import SidecarStatus
from mesh.planning import keyspace
from mesh.sidecar import agent
from tests.support.authority import HOUR, Service, client, serving
from tests.support.mesh_host import CLOCK, DEADLINE, Host, Running, Spawned, more

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
  rules: [{name: web, action: allow, from: [{service: web}]}]
---
"""
SHORT = timedelta(seconds=8)
WEB, API = ServiceName("default", "web"), ServiceName("default", "api")


class Site:
    """Several hosts, each with a state folder of its own, on one store; the first has the CA."""

    def __init__(self, stack: AsyncExitStack, file: Path, first: Host) -> None:
        self._stack = stack
        self._file = file
        self.first = first

    async def host(self) -> Host:
        return await self._stack.enter_async_context(_host(self._file))

    async def token(self, service: ServiceName, uses: int = 1) -> str:
        return (await Registry(self.first.store, CLOCK).create(service, ttl=HOUR, uses=uses))[0]

    async def serve(self, listen: str = "127.0.0.1:0") -> tuple[Any, dict[str, Any]]:
        """`mesh ca serve` on the first host: the process and its line."""
        process = await self.first.mesh("ca", "serve", "--listen", listen, "--output", "json")
        assert process.stdout is not None
        async with asyncio.timeout(DEADLINE):
            line = await process.stdout.readline()
        assert line, (self.first.folder / "mesh.log").read_text()
        return process, json.loads(line)


def _host(file: Path) -> Host:
    return Host(
        new_store=lambda: EmbeddedStore(file, clock=CLOCK),
        environment={"MESH_STORE": f"sqlite://{file}"},
    )


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        file = tmp_path / "shared.db"
        yield Site(stack, file, await stack.enter_async_context(_host(file)))


async def join(
    host: Host, url: str, service: str, token: str | None, *more: str, app: Any = None
) -> Spawned:
    """`mesh sidecar` on a host that is given a token file."""
    file = host.folder / f"{service}.token"
    environment = {"MESH_CA": url}
    if token is not None:
        file.write_text(token)
        environment["MESH_TOKEN_FILE"] = str(file)
    return await host.spawn(service, app, *more, **environment)


async def start(
    host: Host, service: Service, name: ServiceName, token: str | None, app: Any = None
) -> Running:
    """A sidecar's agent in this process, with the service as its authority."""
    issuer = service.client(host.folder / f"as-{name.name}", token)
    ports = host.ports(issuer=lambda _: issuer, is_trust_published=True)
    return await host.start(name.name, app, ports)


async def test_hosts_join_by_token_and_call_one_another(site: Site) -> None:
    await site.first.apply(SERVICE)
    authority, told = await site.serve()
    one, two = await site.host(), await site.host()
    api = await join(one, told["ca"], "api", await site.token(API), app=one.apps("api")["api"])
    web = await join(two, told["ca"], "web", await site.token(WEB))
    assert (await two.until(web, "api")).said["headers"]
    assert not (one.state / "ca").exists()  # the authority's key is on its own host alone
    assert not (two.state / "ca").exists()
    found = await site.first.store.fetch([keyspace.TRUST_BUNDLE])
    assert json.loads(found[keyspace.TRUST_BUNDLE].value)["roots"].count("BEGIN") == 1
    authority.send_signal(signal.SIGTERM)
    async with asyncio.timeout(DEADLINE):
        assert await authority.wait() == 0
    # The authority is away, the tokens are used: what was joined goes on, also after a restart.
    assert await web.signal(signal.SIGTERM) == 0
    web = await join(two, told["ca"], "web", None)
    assert (await two.ask(web, "api")).status == 200
    log = (site.first.folder / "mesh.log").read_text()
    issued = [json.loads(line) for line in log.splitlines() if "issued a certificate" in line]
    assert [(line["kind"], line["identity"]) for line in issued] == [
        ("join", "spiffe://mesh.local/ns/default/svc/api"),
        ("join", "spiffe://mesh.local/ns/default/svc/web"),
    ]
    assert api.process.returncode is None


async def test_an_authority_that_is_away_over_a_renewal_costs_no_request(
    site: Site, tmp_path: Path
) -> None:
    host = site.first
    await host.apply(SERVICE)
    async with serving(tmp_path / "ca", host.store, longest_leaf=SHORT) as service:
        listen = service.serving.listen
        api = await start(host, service, API, await site.token(API), host.apps("api")["api"])
        web = await start(host, service, WEB, await site.token(WEB))
        await host.until(web, "api")
        joined = CLOCK.now()  # nobody's first certificate lives longer than SHORT from here
    async with host.load(web, "api", 2) as counts:
        await _hung_up_on(listen)
        again = serving(tmp_path / "ca", host.store, listen=listen, longest_leaf=SHORT)
        async with again:
            for sidecar in (api, web):
                await host.status(sidecar.ready.id, _has_renewed(joined))
            await CLOCK.sleep(joined + SHORT - CLOCK.now())  # the first certificates are over
            await more(counts, 20)
    assert set(counts) == {"200"}


def _has_renewed(joined: datetime) -> Callable[[SidecarStatus], bool]:
    def holds(status: SidecarStatus) -> bool:
        end = status.certificate_not_after
        return end is not None and end > joined + SHORT and status.stale is None

    return holds


async def _hung_up_on(listen: Address) -> None:
    """Return when somebody was hung up on there: a renewal was tried."""
    tried = asyncio.Event()

    def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tried.set()
        writer.close()

    server = await asyncio.start_server(hang_up, listen.address, listen.port)
    async with server, asyncio.timeout(DEADLINE):
        await tried.wait()


async def test_a_token_that_admits_nobody_is_told_where_the_sidecar_is_started(
    site: Site, tmp_path: Path
) -> None:
    host = site.first
    await host.apply(SERVICE)
    async with serving(tmp_path / "ca", host.store) as service:
        token = await site.token(WEB)
        await start(host, service, WEB, token)
        issuer = service.client(tmp_path / "late", token)
        ports = host.ports(issuer=lambda _: issuer, is_trust_published=True)
        options = host.options("web")
        with pytest.raises(Unavailable, match="has no use left") as caught:
            await agent.run(options, ports, lambda _: None, asyncio.Event(), timedelta(seconds=1))
    assert "mesh token create --service web --namespace default" in caught.value.message


async def test_an_authority_that_is_killed_under_joins_loses_none(site: Site) -> None:
    hosts, early = 20, 15
    token = await site.token(WEB, uses=hosts)
    authority, told = await site.serve()
    identity = Identity("mesh.local", WEB)
    joined: list[int] = []
    is_killed = asyncio.Event()

    async def one(number: int) -> None:
        if number >= early:  # so that some are left, however fast the others are
            await is_killed.wait()
        issuer: ServiceIssuer = client(told["ca"], site.first.folder / f"h{number}", token)
        csr_pem = new_key_and_csr(identity)[1]
        while True:
            try:
                await issuer.issue(identity, csr_pem, HOUR)
            except Unavailable:
                await CLOCK.sleep(timedelta(milliseconds=20))
            else:
                joined.append(number)
                return

    async with asyncio.timeout(3 * DEADLINE), asyncio.TaskGroup() as group:
        for number in range(hosts):
            group.create_task(one(number))
        while len(joined) < 5:
            await CLOCK.sleep(timedelta(milliseconds=1))
        authority.kill()
        await authority.wait()
        is_killed.set()
        again = await site.serve(told["listen"])
        assert again[1]["ca"] == told["ca"]
    (record,) = await Registry(site.first.store, CLOCK).all()
    assert (record.uses, len(record.keys)) == (0, hosts)
    late = client(told["ca"], site.first.folder / "late", token)
    with pytest.raises(Denied, match="no use left"):
        await late.issue(identity, new_key_and_csr(identity)[1], HOUR)
