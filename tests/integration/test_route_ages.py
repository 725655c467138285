"""Of two routes with equal matches the older wins: live, through deletion, return and rollback."""

import json
from collections.abc import AsyncIterator

import pytest

from tests.support.mesh_host import Host, Spawned

SERVICES = """
{apiVersion: mesh/v1, kind: Mesh, metadata: {name: mesh}, spec: {access: {default: allow}}}
---
{apiVersion: mesh/v1, kind: Service, metadata: {name: api}, spec: {protocol: http, port: 80}}
---
apiVersion: mesh/v1
kind: Service
metadata: {name: api-v1}
spec: {protocol: http, port: 80, instances: {service: api, meta: {version: v1}}}
---
apiVersion: mesh/v1
kind: Service
metadata: {name: api-v2}
spec: {protocol: http, port: 80, instances: {service: api, meta: {version: v2}}}
"""
ROUTE = """
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}}}
spec:
  parentRefs: [{{group: "", kind: Service, name: api}}]
  rules:
    - matches: [{{path: {{type: PathPrefix, value: /shop}}}}]
      backendRefs: [{{name: api-{version}, port: 80}}]
"""
# The names are in the other order, so that it is not they that decide.
FIRST = ROUTE.format(name="z-first", version="v1")
SECOND = ROUTE.format(name="a-second", version="v2")


class Shop:
    """web calls api, of which two instances run; people change routes by commands."""

    def __init__(self, host: Host, web: Spawned) -> None:
        self.host = host
        self.web = web

    async def backend(self) -> str | int:
        """Who answers, or the status where nobody does."""
        answer = await self.host.ask(self.web, "api", "/shop/1")
        return str(answer.said["backend"]) if answer.status == 200 else answer.status

    async def command(self, *words: str) -> int:
        """Run a command that makes a revision and waits for the sidecars; its number."""
        process = await self.host.mesh(*words, "--yes", "--output", "json")
        out, _ = await process.communicate()
        assert process.returncode == 0, out
        return int(json.loads(out)["revision"])

    async def apply(self, *routes: str) -> int:
        file = self.host.folder / "policies.yaml"
        file.write_text(SERVICES + "".join(routes))
        return await self.command("apply", str(file))


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    async with Host() as host:
        await host.apply(SERVICES)
        for version, app in host.apps("v1", "v2").items():
            await host.spawn("api", app, "--meta", f"version={version}")
        web = await host.spawn("web")
        await host.until(web, "api")
        yield Shop(host, web)


async def test_who_was_deleted_and_made_again_is_the_younger_one(shop: Shop) -> None:
    await shop.apply(FIRST)
    assert await shop.backend() == "v1"
    both = await shop.apply(SECOND, FIRST)
    assert await shop.backend() == "v1"
    await shop.apply(SECOND)
    assert await shop.backend() == "v2"
    again = await shop.apply(FIRST, SECOND)
    assert await shop.backend() == "v2"
    # An update is no new document.
    await shop.apply(FIRST, SECOND.replace("/shop", "/shop/"))
    assert await shop.backend() == "v2"
    await shop.command("rollback", str(both))
    assert await shop.backend() == "v1"
    await shop.command("rollback", str(again))
    assert await shop.backend() == "v2"
    await shop.apply()
    await shop.apply(ROUTE.format(name="b", version="v1").replace("/shop", "/other"))
    assert await shop.backend() == 404
