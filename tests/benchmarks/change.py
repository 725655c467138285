"""B23: seven kinds of change under constant load: no answer but 200.

web calls api (two instances) through two sidecars, 500 requests a second on 16 connections, while
each change is committed and every sidecar concerned has acknowledged it before the next. The last
kind ends an instance's sidecar and starts it again with its listener on another port.
`MESH_BENCH_CHANGES=20` for a shorter run.
"""

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import commits, harness, raw, sides

CHANGES = int(os.environ.get("MESH_BENCH_CHANGES", "200"))
RATE = 500
CONNECTIONS = 16
WITHIN_SECONDS = 20.0

MESH = """\
apiVersion: mesh/v1
kind: Mesh
metadata: {{name: mesh}}
spec: {{certificates: {{lifetime: {lifetime}}}}}
---
"""
VIEW = """\
---
apiVersion: mesh/v1
kind: Service
metadata: {{name: {name}}}
spec: {{protocol: http, port: 80, instances: {{service: api, meta: {{version: {version}}}}}}}
"""
ROUTE = """\
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: api}
spec:
  parentRefs: [{group: "", kind: Service, name: api}]
  rules:
"""
RULE = """\
    - matches: [{{headers: [{{name: x-rule, value: "{number}"}}]}}, {{path: {{value: /}}}}]
      backendRefs: [{{name: {backend}, port: 80}}]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the documents of one moment say."""

    backend: str = "back"
    version: str = "v1"
    rules: tuple[int, ...] = (0, 1, 2, 3)
    port: int = 80
    lifetime: str = "24h"
    views: tuple[str, ...] = ("back",)

    @property
    def text(self) -> str:
        """As YAML."""
        pair = sides.PAIR.replace("port: 80", f"port: {self.port}")
        views = (VIEW.format(name=name, version=self.version) for name in self.views)
        backend, port = self.backend, self.port if self.backend == "api" else 80
        rules = (RULE.format(number=number, backend=backend) for number in self.rules)
        route = (ROUTE + "".join(rules)).replace("port: 80", f"port: {port}")
        return MESH.format(lifetime=self.lifetime) + pair + "".join(views) + route


def kinds(number: int) -> dict[str, Wanted]:
    """The documents of each kind's change `number`."""
    is_odd = bool(number % 2)
    forward = (0, 1, 2, 3)
    return {
        "rename a backend": Wanted(backend=f"back-{number}", views=(f"back-{number}",)),
        "reorder rules": Wanted(rules=forward[::-1] if is_odd else forward),
        "swap a subset": Wanted(version="v2" if is_odd else "v1"),
        "delete + create a cluster": Wanted(backend="api", views=()) if is_odd else Wanted(),
        "rotate certificates": Wanted(lifetime="12h" if is_odd else "24h"),
        "change a service's port": Wanted(port=8080 if is_odd else 80),
    }


def run() -> None:
    """Print, for each kind, how many changes there were and what the load saw."""
    with harness.workspace() as folder, ExitStack() as stack:
        (app,) = harness.free_ports(1)
        stack.enter_context(harness.envoy(raw.application(folder, app)))
        mesh = sides.Mesh(folder, {})
        mesh.apply(Wanted().text, "--no-wait")
        stack.enter_context(mesh.sidecar("api", app, "--meta", "version=v1"))
        web = stack.enter_context(mesh.sidecar("web"))
        with mesh.sidecar("api", app, "--meta", "version=v2"):
            harness.answers(web.outbound, "api")
            commits.run(_policies(mesh, harness.generator(folder), web.outbound))
        _listener_port(mesh, app, harness.generator(folder), web.outbound)


async def _policies(mesh: sides.Mesh, program: Path, port: int) -> None:
    async with commits.committer(mesh) as committer:
        for kind in kinds(0):
            await committer.commit(Wanted().text, WITHIN_SECONDS)
            before = _certificates(mesh)
            with _load(program, port) as load:
                for number in range(1, CHANGES + 1):
                    await committer.commit(kinds(number)[kind].text, WITHIN_SECONDS)
            print(f"  {kind}: {CHANGES} changes, {load}", flush=True)
            if issued := _certificates(mesh) - before:
                print(f"    {issued} certificates were issued meanwhile, to three sidecars")


def _certificates(mesh: sides.Mesh) -> int:
    """How many the sidecars got so far, by their logs."""
    logs = (mesh.folder / f"{service}.log" for service in ("api", "web"))
    return sum(log.read_text().count('"got a certificate"') for log in logs)


def _listener_port(mesh: sides.Mesh, app: int, program: Path, port: int) -> None:
    mesh.apply(Wanted(backend="api", views=()).text)
    with _load(program, port) as load:
        for _ in range(CHANGES):
            with mesh.sidecar("api", app):
                pass
    print(f"  change a listener's port: {CHANGES} changes, {load}", flush=True)


def _load(program: Path, port: int) -> harness.Background:
    return harness.Background(program, port, host="api", connections=CONNECTIONS, rate=RATE)
