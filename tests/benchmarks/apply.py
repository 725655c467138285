"""B12: validate, plan and commit 10,000 documents of 200 files as one revision, on both stores.

The yardstick is the parser alone, on the same files in the same run: libyaml's events and nodes,
and `json.loads` of the same documents as JSON.
"""

import json
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

from ruamel.yaml import YAML

from mesh.operations.apply import Terms, apply
from mesh.operations.plan import prepare
from mesh.operations.validate import validate
from tests.benchmarks import commits, harness, sides

FILES = 200
GROUPS = 10  # in each file, of five documents
ROUNDS = 3

GROUP = """\
apiVersion: mesh/v1
kind: Service
metadata: {{name: {name}}}
spec: {{protocol: http, port: 80}}
---
apiVersion: mesh/v1
kind: Service
metadata:
  name: {name}-v2
spec:
  protocol: http
  port: 80
  instances:
    service: {name}
    meta: {{version: v2}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: {name}
spec:
  parentRefs: [{{group: "", kind: Service, name: {name}}}]
  rules:
    - matches:
        - path: {{type: PathPrefix, value: /items}}
          headers: [{{name: x-beta, value: "1"}}]
      backendRefs: [{{name: {name}-v2, port: 80}}]
    - backendRefs:
        - {{name: {name}, port: 80, weight: 90}}
        - {{name: {name}-v2, port: 80, weight: 10}}
---
apiVersion: mesh/v1
kind: AccessPolicy
metadata:
  name: {name}
spec:
  targetRefs: [{{kind: Service, name: {name}}}]
  rules:
    - name: callers
      action: allow
      from: [{{service: {name}}}]
      to: [{{methods: [GET], paths: [{{prefix: /items}}]}}]
---
apiVersion: mesh/v1
kind: TrafficPolicy
metadata:
  name: {name}
spec:
  targetRefs: [{{kind: Service, name: {name}}}]
  timeouts: {{request: 3s}}
  retry: {{attempts: 2, on: [connect-failure, gateway-error]}}
"""


def run() -> None:
    """Print documents a second of each step, beside the parsers alone."""
    with harness.workspace() as folder:
        policies = folder / "policies"
        texts = _write(policies)
        documents = FILES * GROUPS * 5
        _yardstick(texts, documents)
        _rate("validate", documents, lambda: commits.run(validate([str(policies)])))
        for name, store in commits.stores().items():
            rates = []
            for number in range(ROUNDS):
                home = folder / f"{name}-{number}"
                home.mkdir()
                with store(home) as settings:
                    took = commits.run(_commit(sides.Mesh(home, settings), policies, documents))
                rates.append(documents / took)
            each = ", ".join(f"{rate:.0f}" for rate in rates)
            middle = harness.median(rates)
            print(
                f"  {name}: validate + plan + commit {middle:.0f} documents/s ({each})", flush=True
            )


def _write(folder: Path) -> list[str]:
    folder.mkdir()
    texts = []
    for file in range(FILES):
        groups = [GROUP.format(name=f"s{file}-{number}") for number in range(GROUPS)]
        texts.append("---\n".join(groups))
        (folder / f"{file:03}.yaml").write_text(texts[-1])
    return texts


def _yardstick(texts: list[str], documents: int) -> None:
    def parse() -> list[Any]:
        yaml = YAML(typ="safe", pure=False)
        return [each for text in texts for each in yaml.load_all(text)]

    as_json = [json.dumps(each) for each in parse()]
    _rate("libyaml alone, values without places", documents, parse)
    _rate("json.loads alone", documents, lambda: [json.loads(each) for each in as_json])


def _rate(what: str, documents: int, work: Callable[[], Any]) -> None:
    rates = []
    for _ in range(ROUNDS):
        start = monotonic()
        work()
        rates.append(documents / (monotonic() - start))
    print(f"  {what}: {harness.median(rates):.0f} documents/s", flush=True)


async def _commit(mesh: sides.Mesh, policies: Path, documents: int) -> float:
    """What `mesh apply --no-wait` does between its start and its end; seconds."""
    async with commits.opened(mesh) as store:
        start = monotonic()
        prepared = await prepare(store, [str(policies)], "main")
        await apply(store, commits.CLOCK, prepared, Terms(), lambda _: None)
        took = monotonic() - start
    assert len(prepared.plan.changes) == documents
    return took
