"""web calls api through two real sidecars, on SQLite."""

import ssl
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.support.mesh_host import Host

SERVICE = """
apiVersion: mesh/v1
kind: Service
metadata: {name: api}
spec: {protocol: http, port: 80}
---
"""
ACCESS = """
apiVersion: mesh/v1
kind: AccessPolicy
metadata: {name: api}
spec:
  targetRefs: [{kind: Service, name: api}]
  rules:
    - {name: web-uses, action: allow, from: [{service: web}], to: [{methods: [METHODS]}]}
"""


def documents(methods: str = "GET") -> str:
    return SERVICE + ACCESS.replace("METHODS", methods)


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    async with Host() as host:
        yield host


async def test_web_calls_api_over_mutual_tls(host: Host) -> None:
    await host.apply(documents())
    api = await host.start("api", host.apps("api")["api"])
    web = await host.start("web")
    answer = await host.ask(web, "api", "/items?x=1")
    assert (answer.status, answer.said["path"]) == (200, "/items?x=1")
    certificate = dict(answer.said["headers"])["x-forwarded-client-cert"]
    assert "URI=spiffe://mesh.local/ns/default/svc/web" in certificate
    for name in ("api.default", "api.default.mesh", "api:80"):
        assert (await host.ask(web, name)).status == 200
    assert (await host.ask(web, "api", method="POST")).reason == "access-denied"
    assert (await host.ask(web, "elsewhere")).reason == "unknown-host"
    assert (await host.ask(api, "api")).reason == "unknown-host"  # nobody lets api call api
    assert (web.ready.revision, web.ready.inbound) == (1, None)


async def test_inbound_takes_no_plain_request_and_no_stranger(host: Host) -> None:
    await host.apply(documents())
    api = await host.start("api", host.apps("api")["api"])
    assert api.ready.inbound is not None
    inbound = f"{api.ready.inbound.address}:{api.ready.inbound.port}"
    stranger = ssl.create_default_context()
    stranger.check_hostname = False
    stranger.verify_mode = ssl.CERT_NONE
    for url, tls in ((f"http://{inbound}/", False), (f"https://{inbound}/", stranger)):
        with pytest.raises(aiohttp.ClientError):
            await host.http.get(url, ssl=tls)


async def test_rules_that_change_hold_at_once_on_old_connections(host: Host) -> None:
    await host.apply(documents())
    await host.start("api", host.apps("api")["api"])
    web = await host.start("web")
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as one:
        assert (await host.ask(web, "api", http=one)).status == 200
        assert (await host.apply(documents("POST"))).is_done
        assert (await host.ask(web, "api", http=one)).reason == "access-denied"
        assert (await host.ask(web, "api", http=one, method="POST")).status == 200


async def test_sidecars_come_before_the_first_revision(host: Host) -> None:
    api = await host.start("api", host.apps("api")["api"])
    web = await host.start("web")
    assert (api.ready.revision, (await host.ask(web, "api")).reason) == (0, "unknown-host")
    outcome = await host.apply(documents())
    assert outcome.acceptance.accepted == tuple(sorted([api.ready.id, web.ready.id]))
    assert (await host.until(web, "api")).status == 200


async def test_what_does_not_concern_a_sidecar_is_reported_without_a_push(host: Host) -> None:
    await host.apply(documents())
    web = await host.start("web")
    other = SERVICE.replace("name: api", "name: other")
    outcome = await host.apply(other + documents())
    status = await host.status(web.ready.id, lambda s: s.revision == outcome.revision)
    assert status.seen == outcome.revision
