"""A mesh under load on sites of its own, with a writer whose acknowledged commits are counted.

web calls api on two hosts, a hundred requests a second; every half second somebody commits another
policy of api. A fault is done to it by `Bed.fault()` and the moment it is mended by `Bed.mended()`.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

from mesh.adapters.envoy.process import Record
from mesh.adapters.etcd import EtcdSettings, EtcdStore
from mesh.errors import MeshError
from mesh.operations.apply import Terms, apply
from mesh.operations.plan import prepare
from mesh.operations.sidecars import Member, read_members
from mesh.operations.state import read_head
from mesh.planning import keyspace
from mesh.planning.record import parse_record
from mesh.ports import Store
from tests.faults.cluster import Consul, Etcd
from tests.faults.load import CLOCK, Load, load
from tests.faults.sites import Site, Wires
from tests.support.servers import free_ports

DEADLINE = 90.0
POLL = timedelta(milliseconds=20)
BEAT = timedelta(milliseconds=500)
KEPT = 90
# How long what is gone for long is gone.
LASTING = float(os.environ.get("MESH_FAULT_SECONDS", "60"))

DOCUMENTS = """\
apiVersion: mesh/v1
kind: Mesh
metadata: {name: mesh}
spec: {certificates: {lifetime: LIFETIME}}
---
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
  rules: [{name: web-reads, action: allow, from: [{service: web}], to: [{methods: [GET]}]}]
---
apiVersion: mesh/v1
kind: TrafficPolicy
metadata: {name: api}
spec:
  targetRefs: [{kind: Service, name: api}]
  loadBalancer: {algorithm: round-robin}
  timeouts: {request: BEATms}
  retry:
    attempts: 3
    on: [connect-failure, refused-stream, reset, gateway-error]
    perTryTimeout: 1s
    budget: {percent: 50, minConcurrency: 20}
  outlierDetection: {consecutiveGatewayErrors: 3, ejection: {base: 5s}}
"""


@dataclass(slots=True)
class Sidecar:
    """A `mesh sidecar` process on a site, and the application beside it."""

    name: str
    site: Site
    process: subprocess.Popen[bytes]
    log: Path
    state: Path
    app: subprocess.Popen[bytes] | None = None
    ready: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return str(self.ready["id"])

    @property
    def envoy(self) -> int:
        """The process id of its Envoy."""
        record = Record.read(self.state / "sidecars" / self.id / "envoy.json")
        assert record is not None
        return record.process.pid

    def pids(self) -> list[int]:
        """Everything of that host."""
        found = [self.process.pid, self.envoy]
        return [*found, self.app.pid] if self.app else found

    def signal(self, number: signal.Signals) -> None:
        """To agent, Envoy and application alike: what a frozen machine is."""
        for pid in self.pids():
            os.kill(pid, number)

    def first_log(self, words: str, since: float) -> float | None:
        """When (wall clock, seconds) the agent first logged an event after `since`."""
        for line in self.log.read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError, KeyError):
                item = json.loads(line)
                moment = datetime.fromisoformat(item["timestamp"]).timestamp()
                if item["event"].startswith(words) and moment >= since:
                    return moment
        return None


class Bed:
    """See the module. Enter it with `bed`."""

    def __init__(self, folder: Path, etcd: Etcd, consul: Consul | None, wires: Wires | None):
        self.folder = folder
        self.etcd = etcd
        self.consul = consul
        self.wires = wires
        self.sidecars: dict[str, Sidecar] = {}
        self.load = Load()
        self.lifetime = "24h"
        self.extra_environment: dict[str, dict[str, str]] = {}
        self.acknowledged: list[tuple[int, str]] = []
        self.is_writing = True
        self.store: Store
        self._beat = 10_000
        self._lock = asyncio.Lock()
        self.began = self.began_wall = 0.0
        self.apis = 2
        self.lasting = LASTING
        self.ca: subprocess.Popen[bytes] | None = None
        self.ca_port = free_ports(1)[0]
        self.ca_setting = ""
        self.mended_at: float | None = None
        self.noticed: float | None = None

    # --- marks -------------------------------------------------------------------------------

    def fault(self) -> None:
        """The fault begins now."""
        self.began, self.began_wall = monotonic(), datetime.now(UTC).timestamp()  # noqa: TID251

    def elapsed(self) -> float:
        """Seconds since the fault."""
        return monotonic() - self.began

    def mended(self) -> None:
        """What was broken is whole again now; without it the mesh mends itself."""
        self.mended_at = monotonic()

    def notice(self) -> None:
        """Somebody was told of the fault now; the first time counts."""
        self.noticed = self.noticed or monotonic() - self.began

    def notice_from_logs(self, words: str = "out of reach") -> None:
        """The first sidecar's log line since the fault."""
        found = [s.first_log(words, self.began_wall) for s in self.sidecars.values()]
        if moments := [moment for moment in found if moment is not None]:
            self.noticed = min(moments) - self.began_wall

    async def sleep(self, seconds: float) -> None:
        await CLOCK.sleep(timedelta(seconds=seconds))

    # --- documents ---------------------------------------------------------------------------

    async def commit(self, *, accept_restore: bool = False) -> int:
        """Commit another policy of api; its revision, acknowledged by the store."""
        async with self._lock:
            self._beat += 1
            file = self.folder / "policies.yaml"
            text = DOCUMENTS.replace("BEAT", str(self._beat)).replace("LIFETIME", self.lifetime)
            file.write_text(text)
            prepared = await prepare(self.store, [str(file)], "main")
            terms = Terms(author="writer", accept_restore=accept_restore)
            outcome = await apply(self.store, CLOCK, prepared, terms, lambda _: None)
            change = (await read_head(self.store))[0]
            if change is not None and change.revision.number == outcome.revision:
                self.acknowledged.append((outcome.revision, change.change))
            return outcome.revision

    async def write(self) -> None:
        """Commit for ever; what is not acknowledged does not count."""
        while True:
            if self.is_writing:
                with contextlib.suppress(MeshError):
                    await self.commit()
            await CLOCK.sleep(BEAT)

    async def missing(self) -> int:
        """How many of the newest acknowledged commits the store does not have."""
        head, _ = await read_head(self.store)
        newest = head.revision.number if head else 0
        wanted = [item for item in self.acknowledged if item[0] > newest - KEPT]
        keys = {keyspace.revision(number): change for number, change in wanted}
        names = list(keys)
        found: dict[str, str] = {}
        for start in range(0, len(names), 50):
            entries = await self.store.fetch(names[start : start + 50])
            found |= {key: parse_record(entry.value).change for key, entry in entries.items()}
        return sum(found.get(key) != change for key, change in keys.items())

    async def members(self) -> tuple[Member, ...]:
        return await read_members(self.store)

    async def healed(self, within: float = DEADLINE) -> float:
        """Commit once more; the moment when every sidecar runs it and complains of nothing."""
        end = monotonic() + within
        revision = 0
        last: object = None
        while monotonic() < end:
            try:
                revision = revision or await self.commit()
                found = {m.status.id: m for m in await self.members()}
                mine = [found.get(sidecar.id) for sidecar in self.sidecars.values()]
                last = [
                    (m.status.revision, m.is_alive, m.message, m.status.rejections) if m else None
                    for m in mine
                ]
                if all(
                    m and m.is_alive and not m.status.stale and m.status.revision >= revision
                    for m in mine
                ):
                    return monotonic()
            except MeshError as error:
                last = error
            await CLOCK.sleep(POLL)
        raise AssertionError(f"not healed within {within:.0f} s, head wanted {revision}: {last}")

    async def until_status(self, holds: Any) -> None:
        """Return when a report of the sidecars holds."""
        async with asyncio.timeout(DEADLINE):
            while True:
                with contextlib.suppress(MeshError):
                    if any(holds(m) for m in await self.members()):
                        return
                await CLOCK.sleep(POLL)

    async def flows(self, requests: int = 100) -> None:
        """Return when so many more requests were answered."""
        aim = self.load.answers["200"] + requests
        async with asyncio.timeout(DEADLINE):
            while self.load.answers["200"] < aim:
                await CLOCK.sleep(POLL)

    # --- processes ---------------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MESH_")}
        settings = {
            "MESH_STATE": str(self.folder / "state"),
            "MESH_STORE": f"etcd://{','.join(self.etcd.endpoints)}/mesh",
        }
        if self.consul:
            settings["MESH_DISCOVERY"] = f"consul://{self.consul.client.endpoint}"
        return kept | settings

    async def mesh(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `mesh ARGUMENTS` to its end."""
        return await asyncio.to_thread(
            lambda: subprocess.run(
                [sys.executable, "-m", "mesh", *arguments],
                env=self.environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=DEADLINE,
            )
        )

    async def start_ca(self) -> None:
        """Run `mesh ca serve`, again after an end, and wait until it serves."""
        command = ("ca", "serve", "--listen", f"127.0.0.1:{self.ca_port}", "--name", "127.0.0.1")
        with (self.folder / "ca.log").open("ab") as log:
            self.ca = subprocess.Popen(  # noqa: ASYNC220 (a start takes a moment, not a wait)
                [sys.executable, "-m", "mesh", *command, "--output", "json"],
                env=self.environment | {"MESH_STATE": str(self.folder / "authority")},
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self.ca.stdout is not None
        said = b""
        while not said.rstrip().endswith(b"}"):
            line = await asyncio.to_thread(self.ca.stdout.readline)
            assert line, (self.folder / "ca.log").read_text()[-2000:]
            said += line
        fingerprint = json.loads(said)["fingerprint"].removeprefix("sha256:")
        self.ca_setting = f"https://127.0.0.1:{self.ca_port}?fingerprint=sha256:{fingerprint}"

    async def token(self, name: str, service: str) -> None:
        """Let the sidecar `name` join."""
        made = await self.mesh("token", "create", "--service", service)
        file = self.folder / f"{name}.token"
        file.write_text(made.stdout)
        file.chmod(0o600)
        settings = {"MESH_CA": self.ca_setting, "MESH_TOKEN_FILE": str(file)}
        self.extra_environment[name] = self.extra_environment.get(name, {}) | settings

    def launch_app(self, site: Site, port: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*site.prefix, sys.executable, "-m", "tests.faults.app", "127.0.0.1", str(port)]
        )

    def launch(self, name: str, service: str, site: Site, app: int = 0) -> Sidecar:
        """Start a sidecar; `ready` follows with `wait_ready`."""
        where = ("--app", f"127.0.0.1:{app}", "--inbound", f"{site.address}:0") if app else ()
        command = (
            *(*site.prefix, sys.executable, "-m", "mesh", "sidecar", "--service", service),
            *("--id", name, *where, "--outbound", f"{site.address}:0", "--output", "json"),
        )
        log = self.folder / f"{name}.log"
        with log.open("ab") as stream:
            process = subprocess.Popen(
                command,
                env=self.environment | self.extra_environment.get(name, {}),
                stdout=subprocess.PIPE,
                stderr=stream,
            )
        known = self.sidecars.get(name)
        sidecar = Sidecar(name, site, process, log, self.folder / "state")
        sidecar.app = known.app if known else (self.launch_app(site, app) if app else None)
        self.sidecars[name] = sidecar
        return sidecar

    async def wait_ready(self, sidecar: Sidecar) -> None:
        """Return when it serves."""
        assert sidecar.process.stdout is not None
        line = await asyncio.to_thread(sidecar.process.stdout.readline)
        assert line, sidecar.log.read_text()[-2000:]
        sidecar.ready = json.loads(line)

    def end(self) -> None:
        """End every process of the sidecars, and the authority."""
        if self.ca is not None:
            self.ca.kill()
            self.ca.communicate()
        for sidecar in self.sidecars.values():
            for process in (sidecar.process, sidecar.app):
                if process is not None:
                    with contextlib.suppress(ProcessLookupError):
                        process.send_signal(signal.SIGCONT)
                        process.kill()
                    process.communicate()
        for file in (self.folder / "state").glob("sidecars/*/envoy.json"):
            if (record := Record.read(file)) is not None:
                record.process.signal(signal.SIGKILL)


@asynccontextmanager
async def bed(
    *,
    wires: Wires | None = None,
    with_consul: bool = False,
    with_ca: bool = False,
    apis: int = 2,
    etcd_extra: tuple[str, ...] = (),
    lifetime: str = "24h",
    environment: Mapping[str, Mapping[str, str]] | None = None,
) -> AsyncIterator[Bed]:
    """A bed that serves under load; everything is ended with the block."""
    with _folder() as folder:
        sites = [wires.site(f"etcd{n}") if wires else Site(f"etcd{n}") for n in range(3)]
        etcd = Etcd(folder, sites, free_ports(6), etcd_extra)
        consul = Consul(folder, free_ports(24)) if with_consul else None
        made = Bed(folder, etcd, consul, wires)
        made.lifetime = lifetime
        made.extra_environment = {k: dict(v) for k, v in (environment or {}).items()}
        made.apis = apis
        try:
            etcd.start()
            if consul:
                await asyncio.to_thread(consul.start)
            async with AsyncExitStack() as stack:
                await _begin(made, stack, with_ca=with_ca)
                yield made
        finally:
            made.end()
            if consul:
                consul.stop()
            made.etcd.stop()


async def _begin(made: Bed, stack: AsyncExitStack, *, with_ca: bool) -> None:
    settings = EtcdSettings(endpoints=tuple(made.etcd.endpoints))
    made.store = await stack.enter_async_context(EtcdStore(settings, clock=CLOCK))
    await made.commit()
    if with_ca:
        await made.start_ca()
    places = [*((f"api-{n + 1}", "api") for n in range(made.apis)), ("web-1", "web")]
    for name, service in places:
        site = made.wires.site(name.replace("-", "")) if made.wires else Site(name)
        app = free_ports(1)[0] if service == "api" else 0
        if with_ca:
            await made.token(name, service)
        made.launch(name, service, site, app)
    for sidecar in made.sidecars.values():
        await made.wait_ready(sidecar)
    await made.healed()
    url = f"http://{made.sidecars['web-1'].ready['outbound']}/"
    made.load = await stack.enter_async_context(load(url, "api"))
    group = await stack.enter_async_context(asyncio.TaskGroup())
    stack.callback(group.create_task(made.write()).cancel)
    await made.flows()
    made.load.answers.clear()  # what came before all was up is not the fault's
    made.load.failures.clear()


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="mesh-faults-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
