"""A fleet: real etcd and Consul, some processes of agents, and a committer beside them."""

import asyncio
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from time import monotonic
from typing import Any

from mesh.adapters.clock import SystemClock
from mesh.adapters.etcd import EtcdSettings, EtcdStore
from mesh.model.revision import Manifest
from mesh.operations.apply import Terms, apply
from mesh.operations.commit import Note, commit
from mesh.operations.plan import prepare
from mesh.operations.sidecars import read_members
from mesh.operations.state import read_state
from mesh.planning import keyspace
from mesh.planning.plan import restore
from mesh.ports import Store, Transaction
from tests.support import servers
from tests.support.servers import Server

CLOCK = SystemClock()
DEADLINE = 400.0
PER_SERVICE = 10

SERVICE = """\
apiVersion: mesh/v1
kind: Service
metadata: {{name: {name}}}
spec: {{protocol: http, port: 80}}
---
apiVersion: mesh/v1
kind: AccessPolicy
metadata: {{name: {name}}}
spec:
  targetRefs: [{{kind: Service, name: {name}}}]
  rules: [{{name: callers, action: allow, from: [{callers}]}}]
---
"""
COMMON = """\
apiVersion: mesh/v1
kind: TrafficPolicy
metadata: {{name: s0}}
spec:
  targetRefs: [{{kind: Service, name: s0}}]
  timeouts: {{request: {beat}ms}}
"""


def documents(services: int, beat: int) -> str:
    """Everybody calls s0, and two others; `beat` changes what everybody is told."""
    texts = []
    for number in range(services):
        callers = (
            f"{{service: s{(number + 1) % services}}}, {{service: s{(number + 2) % services}}}"
        )
        if number == 0:
            callers = "{namespace: default}"
        texts.append(SERVICE.format(name=f"s{number}", callers=callers))
    return "".join(texts) + COMMON.format(beat=beat)


class Timed:
    """A store that notes when its head was committed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.at = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def commit(self, transaction: Transaction) -> None:
        await self._store.commit(transaction)
        if any(put.key == keyspace.HEAD for put in transaction.puts):
            self.at = monotonic()


@dataclass(slots=True)
class Fleet:
    """`size` agents in processes; `etcd` and `consul` are theirs alone."""

    size: int
    folder: Path
    etcd: Server
    consul: Server
    store: Timed
    workers: list[asyncio.subprocess.Process] = field(default_factory=list)
    _beat: int = 10_000

    @property
    def services(self) -> int:
        """How many services there are."""
        return max(3, self.size // PER_SERVICE)

    async def commit(self) -> tuple[int, float]:
        """Change what everybody is told; the revision and the moment of its commit."""
        self._beat += 1
        file = self.folder / "policies.yaml"
        file.write_text(documents(self.services, self._beat))
        prepared = await prepare(self.store, [str(file)], "main")
        terms = Terms(author="fleet")
        outcome = await apply(self.store, CLOCK, prepared, terms, lambda _: None)
        return outcome.revision, self.store.at

    async def swap(self, manifests: Sequence[Manifest]) -> tuple[int, float]:
        """Commit the next of some manifests that were committed before: quicker than documents."""
        self._beat += 1
        state = await read_state(self.store)
        wanted = manifests[self._beat % len(manifests)]
        plan = restore(state.manifest, wanted, base=state.number, change=state.change, source=None)
        revision = await commit(self.store, CLOCK, state, plan, Note(author="storm"))
        return revision.number, self.store.at

    async def order(self, what: str, **more: Any) -> list[Any]:
        """Tell every process; their answers."""
        line = json.dumps({"do": what} | more).encode() + b"\n"
        for worker in self.workers:
            assert worker.stdin is not None
            worker.stdin.write(line)
        answers = []
        async with asyncio.timeout(DEADLINE):
            for worker in self.workers:
                assert worker.stdout is not None
                answer = await worker.stdout.readline()
                assert answer, "a process of agents ended"
                answers.append(json.loads(answer))
        return answers

    async def published(self, since: float) -> dict[int, list[tuple[int, float]]]:
        """What each agent published since that moment."""
        found: dict[int, list[tuple[int, float]]] = {}
        for answer in await self.order("report", since=since):
            found |= {int(k): [tuple(i) for i in v] for k, v in answer["published"].items()}
        return found

    async def cpu_seconds(self) -> float:
        """What the agents' processes used so far."""
        return sum(a["cpu_seconds"] for a in await self.order("report", since=monotonic()))

    async def until_live(self, revision: int, since: float) -> list[float]:
        """When each agent had that revision or a newer one; the moments."""
        end = monotonic() + DEADLINE
        while monotonic() < end:
            found = await self.published(since)
            moments = [next((t for r, t in v if r >= revision), None) for v in found.values()]
            if None not in moments:
                return [moment for moment in moments if moment is not None]
            await pause(0.05)
        raise AssertionError(f"revision {revision} is not at every agent")

    async def until_reported(self, revision: int) -> float:
        """The moment when the store knows each agent alive, at that revision, without complaint."""
        end = monotonic() + DEADLINE
        while monotonic() < end:
            members = await read_members(self.store)
            done = [
                m.is_alive and not m.status.stale and m.status.revision >= revision for m in members
            ]
            if len(done) == self.size and all(done):
                return monotonic()
            await pause(0.05)
        missing = [(m.status.id, m.message) for m in await read_members(self.store)][:3]
        raise AssertionError(f"not all report {revision}: {missing}")

    def metrics(self) -> dict[str, float]:
        """What etcd counts of itself, summed over labels."""
        with urllib.request.urlopen(f"http://{self.etcd.endpoint}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        found: dict[str, float] = {}
        for line in text.splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                for key in {name, name.split("{")[0]}:
                    found[key] = found.get(key, 0.0) + float(value)
        return found


async def pause(seconds: float) -> None:
    """Let others work."""
    await CLOCK.sleep(timedelta(seconds=seconds))


@asynccontextmanager
async def fleet(size: int, processes: int = 4) -> AsyncIterator[Fleet]:
    """A fleet that serves; everything is ended with the block."""
    # Each agent has a connection per watch of Consul, on both sides; processes inherit this.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    folder = Path(tempfile.mkdtemp(prefix="mesh-fleet-"))
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        limits = "limits { http_max_conns_per_client = 10000 }"
        etcd = stack.enter_context(servers.etcd(folder, extra=["--unsafe-no-fsync=false"]))
        consul = stack.enter_context(servers.consul(folder, extra=["-hcl", limits]))
        settings = EtcdSettings(endpoints=(etcd.endpoint,))
        store = Timed(await stack.enter_async_context(EtcdStore(settings, clock=CLOCK)))
        made = Fleet(size, folder, etcd, consul, store)
        await made.commit()
        stack.push_async_callback(_end, made)
        await _launch(made, min(processes, size))
        yield made


async def _launch(made: Fleet, processes: int) -> None:
    settings = {
        "MESH_STORE": f"etcd://{made.etcd.endpoint}/mesh",
        "MESH_DISCOVERY": f"consul://{made.consul.endpoint}",
        "MESH_STATE": str(made.folder / "state"),
    }
    bounds = [made.size * n // processes for n in range(processes + 1)]
    for first, last in pairwise(bounds):
        given = {
            "folder": str(made.folder),
            "settings": settings,
            "numbers": [first, last],
            "services": made.services,
        }
        made.workers.append(
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.fleet.worker", json.dumps(given)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={k: v for k, v in os.environ.items() if not k.startswith("MESH_")},
                limit=1 << 26,
            )
        )


async def _end(made: Fleet) -> None:
    for worker in made.workers:
        if worker.returncode is None:
            worker.kill()
        await worker.wait()
