"""A real Prometheus scrapes real sidecars and answers the questions that people ask."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mesh.errors import PortInUse
from mesh.model.policy import Address
from tests.support.mesh_host import ANY, Host, Running
from tests.support.prometheus import Prometheus, prometheus, promtool

DOCUMENTS = """\
apiVersion: mesh/v1
kind: Service
metadata: {name: api}
spec: {protocol: http, port: 80}
---
apiVersion: mesh/v1
kind: Service
metadata: {name: gone}
spec: {protocol: http, port: 80}
---
apiVersion: mesh/v1
kind: AccessPolicy
metadata: {name: all}
spec:
  targetRefs: [{kind: Service, name: api}, {kind: Service, name: gone}]
  rules:
    - {name: web, action: allow, from: [{service: web}]}
    - {name: no-secrets, action: deny, to: [{paths: [{prefix: /secret}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: api}
spec:
  parentRefs: [{group: "", kind: Service, name: api}]
  rules:
    - name: items
      matches: [{path: {type: PathPrefix, value: /items}}]
      backendRefs: [{name: api, port: 80}]
    - name: rest
      backendRefs: [{name: api, port: 80}]
"""
BOTH = 'direction="outbound",source="default/web",destination="default/api"'


@dataclass(frozen=True)
class Scene:
    host: Host
    web: Running
    api: Running
    prometheus: Prometheus

    async def text(self, of: Running) -> str:
        assert of.ready.metrics is not None
        url = f"http://127.0.0.1:{of.ready.metrics.port}/metrics"
        async with self.host.http.get(url) as answer:
            assert answer.status == 200
            return await answer.text()


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with Host() as host:
        apps = host.apps("api")
        await host.apply(DOCUMENTS, None)
        api = await host.start("api", apps["api"], metrics=ANY)
        web = await host.start("web", metrics=ANY)
        await host.until(web, "api", "/warm-up")
        targets = [f"127.0.0.1:{each.ready.metrics.port}" for each in (web, api)]  # type: ignore[union-attr]
        with prometheus(tmp_path, {"sidecars": targets}) as server:
            yield Scene(host, web, api, server)


async def test_the_golden_signals_are_answered_by_prometheus(scene: Scene) -> None:
    host, found = scene.host, scene.prometheus
    for path, times in (("/items/1", 5), ("/other", 3), ("/secret", 2)):
        for _ in range(times):
            await host.ask(scene.web, "api", path)
    assert (await host.ask(scene.web, "gone")).status == 503
    assert (await host.ask(scene.web, "nobody")).status == 404

    await found.value('sum(up{job="sidecars"})', 2)
    await found.value(f'mesh_requests_total{{{BOTH},route="default/api/items",code="200"}}', 5)
    await found.value(f'mesh_requests_total{{{BOTH},route="default/api/rest",code="403"}}', 2)
    await found.value('mesh_access_denied_total{rule="default/all/no-secrets"}', 2)
    # The application answers what is not refused; "/warm-up" was asked for at least once.
    await found.until(
        'mesh_requests_total{direction="inbound",destination="default/api",code="200"}',
        lambda vector: all(value >= 5 + 3 + 1 for value in vector.values()) and bool(vector),
    )
    await found.value('mesh_requests_total{destination="default/gone",code="503"}', 1)
    await found.value('mesh_unrouted_requests_total{source="default/web"}', 1)
    await found.value(f'mesh_request_duration_seconds_count{{{BOTH},route="default/api/items"}}', 5)
    await found.until(
        "histogram_quantile(0.5, sum by (le) (mesh_request_duration_seconds_bucket))",
        lambda vector: all(0 < value < 5 for value in vector.values()) and bool(vector),
    )
    await found.value('mesh_backend_endpoints{backend="default/api",state="healthy"}', 1)
    await found.value('mesh_backend_endpoints{backend="default/gone",state="healthy"}', 0)
    await found.value("min(mesh_applied_revision == mesh_head_revision and mesh_store_up == 1)", 1)
    await found.until(
        "mesh_certificate_expiry_timestamp_seconds - time() > 3600", lambda vector: len(vector) == 2
    )
    for sidecar in (scene.web, scene.api):
        assert promtool("check", "metrics", given=await scene.text(sidecar)) == ""


async def test_counters_go_on_when_the_agent_does_not(scene: Scene) -> None:
    host, web = scene.host, scene.web
    query = f'sum(mesh_requests_total{{{BOTH},route="default/api/items"}})'
    for _ in range(4):
        await host.ask(web, "api", "/items")
    await scene.prometheus.value(query, 4)
    envoy = web.envoy
    await web.crash()
    await scene.prometheus.value(f'up{{instance="127.0.0.1:{web.ready.metrics.port}"}}', 0)  # type: ignore[union-attr]
    again = await host.start("web", metrics=web.ready.metrics)
    assert (again.envoy, again.ready.metrics) == (envoy, web.ready.metrics)
    await host.ask(again, "api", "/items")
    await scene.prometheus.value(query, 5)
    await scene.prometheus.value("sum(mesh_envoy_restarts_total)", 0)


async def test_a_metrics_port_in_use_starts_nothing() -> None:
    async with Host() as host:
        taken = await host.lines("busy")
        with pytest.raises(PortInUse, match=r"\(--metrics\)"):
            await host.start("web", metrics=Address(taken.address, taken.port))
        assert not list(host.state.glob("sidecars/*/envoy.json"))


async def test_without_metrics_nothing_is_counted_for_them() -> None:
    async with Host() as host:
        apps = host.apps("api")
        await host.apply(DOCUMENTS, None)
        await host.start("api", apps["api"])
        web = await host.start("web")
        await host.until(web, "api")
        assert web.ready.metrics is None
        listeners = (web.folder / "bootstrap.json").read_text()
        await web.crash()
        again = await host.start("web", metrics=ANY)
        await host.until(again, "api")
        # The same Envoy goes on: what it starts from does not depend on who scrapes.
        assert again.envoy == web.envoy
        assert (web.folder / "bootstrap.json").read_text() == listeners
        async with host.http.get(f"http://127.0.0.1:{again.ready.metrics.port}/healthz") as answer:  # type: ignore[union-attr]
            assert (answer.status, await answer.text()) == (200, "ok\n")


def test_the_alert_rules_are_good_and_fire_when_they_should() -> None:
    assert "SUCCESS" in promtool("check", "rules", "docs/alerts.yaml")
    worlds = Path(__file__).parent / "prometheus" / "worlds.yaml"
    assert "SUCCESS" in promtool("test", "rules", str(worlds))
