"""A whole mesh on this host, for tests: a store, applications, sidecars with real Envoys.

`Host.start` runs a sidecar's agent inside the test (fast), `Host.spawn` as `mesh sidecar`, a
process of its own (what a user runs, and what can be killed). Leaving the host ends everything
that it started and every Envoy that an agent left behind, also after a failure.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from mesh.adapters.ads import AdsServer
from mesh.adapters.clock import SystemClock
from mesh.adapters.embedded import EmbeddedStore
from mesh.adapters.envoy import EnvoyProcess
from mesh.adapters.envoy.process import Record
from mesh.adapters.issuer import LocalIssuer
from mesh.adapters.registered import RegisteredDiscovery
from mesh.adapters.scrape import ScrapeEndpoint
from mesh.model.identity import ServiceName
from mesh.model.policy import Address
from mesh.model.status import SidecarStatus
from mesh.operations.apply import Outcome, Terms, apply
from mesh.operations.plan import prepare
from mesh.operations.sidecars import members
from mesh.planning import keyspace
from mesh.ports import DataPlane, Discovery, Store
from mesh.sidecar import agent
from mesh.sidecar.options import SidecarOptions
from mesh.sidecar.ports import Ready, SidecarPorts
from mesh.sidecar.waiting import closing
from tests.support import echo, leftovers

CLOCK = SystemClock()
DEADLINE = 20.0
ANY = Address("127.0.0.1", 0)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `reason` is `x-mesh-reason`, None from an application."""

    status: int
    body: str
    reason: str | None

    @property
    def said(self) -> Any:
        """The echo application's answer."""
        return json.loads(self.body)


@dataclass(slots=True)
class Running:
    """A sidecar whose agent runs in this process."""

    ready: Ready
    folder: Path
    _task: asyncio.Task[None] = field(repr=False)
    _stop: asyncio.Event = field(repr=False)

    async def stop(self) -> None:
        """End it as SIGTERM does."""
        self._stop.set()
        async with asyncio.timeout(DEADLINE):
            await self._task

    async def crash(self) -> None:
        """The agent is gone; its Envoy is not."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    @property
    def envoy(self) -> int:
        """The pid of its Envoy."""
        return envoy_pid(self.folder)


@dataclass(slots=True)
class Spawned:
    """A sidecar as a process of its own; `ready` is its line on standard output."""

    process: asyncio.subprocess.Process
    ready: Mapping[str, Any]
    folder: Path

    @property
    def outbound(self) -> str:
        """HOST:PORT of its outbound listener."""
        return str(self.ready["outbound"])

    @property
    def envoy(self) -> int:
        """The pid of its Envoy."""
        return envoy_pid(self.folder)

    async def signal(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end; the exit code."""
        self.process.send_signal(number)
        async with asyncio.timeout(DEADLINE):
            return await self.process.wait()


def envoy_pid(folder: Path) -> int:
    """The pid of the Envoy of a sidecar's folder."""
    record = Record.read(folder / "envoy.json")
    assert record is not None, f"no envoy runs in {folder}"
    return record.process.pid


class Host:
    """One host with a state folder of its own. An async context manager.

    Everything is embedded but for what `new_store` and `new_discovery` replace; processes get
    what `environment` says besides.
    """

    def __init__(
        self,
        new_store: Callable[[], Store] | None = None,
        new_discovery: Callable[[Store], Discovery] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = leftovers.folder("mesh")
        self.state = self.folder / "state"
        self.new_store = new_store or self._embedded
        self.new_discovery = new_discovery or _registered
        self.environment = dict(environment or {})
        self.store: Store = self.new_store()
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._processes: list[asyncio.subprocess.Process] = []

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.store)
        self.http = await self._stack.enter_async_context(
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DEADLINE))
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
        for process in self._processes:
            if process.returncode is None:
                process.kill()
                await process.wait()
        for file in self.state.glob("sidecars/*/envoy.json"):
            if (record := Record.read(file)) is not None:
                record.process.signal(signal.SIGKILL)
                await record.process.wait(CLOCK)
        leftovers.end_all(self.folder)  # an Envoy that was started a moment ago has no record yet
        await self._stack.aclose()
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- what is around ----------------------------------------------------------------------

    def _embedded(self) -> Store:
        return EmbeddedStore(self.state / "mesh.db", clock=CLOCK)

    def apps(self, *names: str) -> dict[str, Address]:
        """Echo applications (tests.support.echo), each on a free port."""
        ports = self._stack.enter_context(echo.running(names))
        return {name: Address("127.0.0.1", port) for name, port in ports.items()}

    async def lines(self, answer: str) -> Address:
        """A TCP application that answers each line with `answer` and the line."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while line := await reader.readline():
                    writer.write(f"{answer} ".encode() + line)
                    await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self._stack.callback(server.close)
        return Address("127.0.0.1", server.sockets[0].getsockname()[1])

    # --- policies ----------------------------------------------------------------------------

    async def apply(self, documents: str, within: float | None = 10.0) -> Outcome:
        """Make `documents` all that there is, and wait until every sidecar concerned runs it."""
        file = self.folder / "policies.yaml"
        file.write_text(documents)
        prepared = await prepare(self.store, [str(file)], "main", allow_empty=True)
        terms = Terms(within=None if within is None else timedelta(seconds=within))
        return await apply(self.store, CLOCK, prepared, terms, lambda _: None)

    async def status(
        self, id: str, holds: Callable[[SidecarStatus], bool] = lambda _: True
    ) -> SidecarStatus:
        """The status of a sidecar once it `holds`."""
        async with asyncio.timeout(DEADLINE):
            async with closing(self.store.watch(keyspace.SIDECARS)) as states:
                async for watched in states:
                    for member in members(watched.entries):
                        if member.status.id == id and holds(member.status):
                            return member.status
        raise AssertionError("a watch never ends")

    # --- sidecars ----------------------------------------------------------------------------

    def ports(self, **other: Any) -> SidecarPorts:
        """What sidecars on this host are made of; keywords replace parts."""
        parts: dict[str, Any] = {
            "clock": CLOCK,
            "store": self.new_store,
            "discovery": self.new_discovery,
            "issuer": lambda domain: LocalIssuer(
                self.state / "ca", clock=CLOCK, trust_domain=domain
            ),
            "configuration_server": AdsServer,
            "data_plane": _data_plane,
            "scrape": ScrapeEndpoint,
        }
        return SidecarPorts(**(parts | other))

    def options(self, service: str, app: Address | None = None, **other: Any) -> SidecarOptions:
        """Options on free loopback ports; keywords replace parts. `service` may be `ns/name`."""
        namespace, _, name = service.rpartition("/")
        parts: dict[str, Any] = {
            "service": ServiceName(namespace or "default", name),
            "state": self.state,
            "app": app,
            "inbound": ANY,
            "outbound": ANY,
        }
        return SidecarOptions(**(parts | other))

    async def start(
        self,
        service: str,
        app: Address | None = None,
        ports: SidecarPorts | None = None,
        **other: Any,
    ) -> Running:
        """Run a sidecar's agent in this process; returns when it is ready."""
        told: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        stop = asyncio.Event()
        work = agent.run(
            self.options(service, app, **other), ports or self.ports(), told.set_result, stop
        )
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.append(task)
        async with asyncio.timeout(DEADLINE):
            await asyncio.wait({task, told}, return_when=asyncio.FIRST_COMPLETED)
        if not told.done():
            await task
        ready = told.result()
        return Running(ready, self.state / "sidecars" / ready.id, task, stop)

    async def spawn(
        self, service: str, app: Address | None = None, *arguments: str, **environment: str
    ) -> Spawned:
        """Run `mesh sidecar` in a process of its own; returns when it is ready."""
        options = self.options(service, app)
        where = f"--app={app.address}:{app.port}" if app else "--inbound=127.0.0.1:0"
        process = await self.mesh(
            *("sidecar", "--output", "json", "--service", options.service.name),
            *("--namespace", options.service.namespace, where),
            *("--inbound", "127.0.0.1:0", "--outbound", "127.0.0.1:0", *arguments),
            **environment,
        )
        assert process.stdout is not None
        async with asyncio.timeout(DEADLINE):
            line = await process.stdout.readline()
        assert line, f"mesh sidecar ended: {(self.folder / 'mesh.log').read_text()}"
        ready = json.loads(line)
        return Spawned(process, ready, self.state / "sidecars" / ready["id"])

    async def mesh(self, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
        """Start `mesh` with this host's settings; standard error goes to `mesh.log`."""
        with (self.folder / "mesh.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "mesh", *arguments),
                env={
                    **os.environ,
                    "MESH_STATE": str(self.state),
                    **self.environment,
                    **environment,
                },
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        self._processes.append(process)
        return process

    # --- requests ----------------------------------------------------------------------------

    async def ask(
        self, via: str | Running | Spawned, host: str, path: str = "/", **request: Any
    ) -> Answer:
        """Send a request for `host` through a sidecar (or a HOST:PORT); GET by default.

        `http` is a session of the caller's own; the other keywords are aiohttp's.
        """
        headers = {"host": host, **request.pop("headers", {})}
        method = request.pop("method", "GET")
        http = request.pop("http", self.http)
        url = f"http://{_outbound(via)}{path}"
        async with http.request(method, url, headers=headers, **request) as answer:
            return Answer(answer.status, await answer.text(), answer.headers.get("x-mesh-reason"))

    async def until(
        self, via: str | Running | Spawned, host: str, path: str = "/", status: int = 200
    ) -> Answer:
        """Ask until the answer has `status`."""
        async with asyncio.timeout(DEADLINE):
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    answer = await self.ask(via, host, path)
                    if answer.status == status:
                        return answer
                await CLOCK.sleep(timedelta(milliseconds=5))

    @asynccontextmanager
    async def load(
        self, via: str | Running | Spawned, host: str, connections: int = 4
    ) -> AsyncIterator[Counter[str]]:
        """Requests without a pause on some connections; counts them by status or failure.

        Each request that was sent before the end is waited for and counted.
        """
        counts: Counter[str] = Counter()
        stop = asyncio.Event()

        async def client(http: aiohttp.ClientSession) -> None:
            while not stop.is_set():
                try:
                    url = f"http://{_outbound(via)}/"
                    async with http.get(url, headers={"host": host}) as answer:
                        await answer.read()
                        reason = answer.headers.get("x-mesh-reason", "")
                        counts[f"{answer.status} {reason}".strip()] += 1
                except (aiohttp.ClientError, TimeoutError) as error:
                    counts[type(error).__name__] += 1

        connector = aiohttp.TCPConnector(limit=connections)
        async with aiohttp.ClientSession(connector=connector) as http, asyncio.TaskGroup() as tasks:
            for _ in range(connections):
                tasks.create_task(client(http))
            try:
                yield counts
            finally:
                stop.set()


def _outbound(via: str | Running | Spawned) -> str:
    match via:
        case str():
            return via
        case Spawned():
            return via.outbound
        case Running():
            return f"{via.ready.outbound.address}:{via.ready.outbound.port}"


def _registered(store: Store) -> Discovery:
    return RegisteredDiscovery(store, clock=CLOCK)


def _data_plane(folder: Path, bootstrap: Mapping[str, Any]) -> DataPlane:
    return EnvoyProcess(folder=folder, bootstrap=bootstrap, clock=CLOCK)


async def more(counts: Counter[str], requests: int) -> None:
    """Return when the load has sent that many more requests."""
    aim = counts.total() + requests
    async with asyncio.timeout(DEADLINE):
        while counts.total() < aim:
            await CLOCK.sleep(timedelta(milliseconds=5))
