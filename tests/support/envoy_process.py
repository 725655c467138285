"""A real Envoy under a real configuration server, an application behind it, and load on it."""

import asyncio
import json
import shutil
import socket
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp import web

from mesh.adapters.ads import AdsServer
from mesh.adapters.clock import SystemClock
from mesh.adapters.envoy import EnvoyProcess
from mesh.compiler.bootstrap import bootstrap
from mesh.model.snapshot import Resource
from mesh.ports import Acknowledged
from tests.support.envoy_resources import cluster, endpoints, http_listener, route, snapshot
from tests.support.leftovers import end_all

CLOCK = SystemClock()
WORKERS = 8
DEADLINE_SECONDS = 20


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Load:
    """What a steady load has seen: `answers` by `x-cluster`, and every failure."""

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self._more = asyncio.Event()

    def note(self, cluster: str) -> None:
        self.answers[cluster] += 1
        self._more.set()

    async def more(self, requests: int) -> None:
        """Wait until so many further requests were answered."""
        target = self.answers.total() + requests
        async with asyncio.timeout(DEADLINE_SECONDS):
            while self.answers.total() < target:
                self._more.clear()
                await self._more.wait()


class Rig:
    """An Envoy with its own folder; `await rig.publish(...)` returns when it runs that."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mesh-"))
        self.port = free_port()
        self.app_port = 0
        self.ads = AdsServer(self.ads_socket)
        self.envoy = self.data_plane()
        self.revision = 0
        self.left: list[tuple[int, str]] = []  # what was answered when callers were sent away
        self._server: asyncio.Task[None] | None = None
        self._stack = AsyncExitStack()

    @property
    def ads_socket(self) -> Path:
        return self.folder / "ads.sock"

    def data_plane(self, node_id: str = "web-1") -> EnvoyProcess:
        """An agent's view of the process; a second one is the next agent's."""
        document = bootstrap(
            node_id=node_id,
            cluster="default/web",
            ads_socket=str(self.ads_socket),
            admin_socket=str(self.folder / "admin.sock"),
        )
        return EnvoyProcess(folder=self.folder, bootstrap=document, clock=CLOCK)

    async def __aenter__(self) -> Self:
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self._stack.callback(self._kill)
        self.session = await self._stack.enter_async_context(aiohttp.ClientSession())
        self._tasks = await self._stack.enter_async_context(asyncio.TaskGroup())
        self._stack.callback(self.stop_everything)
        self.running: list[asyncio.Task[None]] = []
        await self._start_app()
        self.start_server()
        self.supervise(self.envoy)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.__aexit__(kind, error, traceback)

    def supervise(self, envoy: EnvoyProcess) -> asyncio.Task[None]:
        task = self._tasks.create_task(envoy.run(self._leave))
        self.running.append(task)
        return task

    async def _leave(self) -> None:
        self.left.append(await self.get())

    def start_server(self) -> None:
        self._server = self._tasks.create_task(self.ads.run())
        self.running.append(self._server)

    async def stop_server(self) -> None:
        """The agent goes; Envoy stays."""
        assert self._server is not None
        self._server.cancel()
        await asyncio.wait([self._server])

    def stop_everything(self) -> None:
        for task in self.running:
            task.cancel()

    def http(self, name: str, **fields: Any) -> tuple[Resource, ...]:
        """A listener on `port` with everything that leads to the application through `name`."""
        return (
            cluster(name, **fields),
            endpoints(name, [self.app_port]),
            http_listener("web", self.port, "web"),
            route("web", name),
        )

    async def publish(self, *resources: Resource) -> Acknowledged:
        self.revision += 1
        return await self.acknowledged(self.ads.publish(snapshot(resources, self.revision)))

    async def acknowledged(self, generation: int) -> Acknowledged:
        async with asyncio.timeout(DEADLINE_SECONDS):
            async for outcome in self.ads.acknowledgements():
                if outcome.generation >= generation:
                    return outcome
        raise AssertionError("the acknowledgements ended")

    async def get(self, path: str = "/") -> tuple[int, str]:
        """One request: status and `x-cluster`."""
        async with self.session.get(f"http://127.0.0.1:{self.port}{path}") as response:
            await response.read()
            return response.status, response.headers.get("x-cluster", "")

    async def admin(self, path: str) -> str:
        connector = aiohttp.UnixConnector(path=str(self.folder / "admin.sock"))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get(f"http://envoy{path}") as response,
        ):
            return await response.text()

    async def statistic(self, name: str) -> int:
        """A counter or gauge; 0 where it does not exist."""
        text = await self.admin(f"/stats?format=json&filter=^{name}$")
        found: list[Mapping[str, int]] = json.loads(text)["stats"]
        return found[0]["value"] if found else 0

    @asynccontextmanager
    async def load(self) -> AsyncIterator[Load]:
        """Requests on keep-alive connections, back to back."""
        load = Load()
        async with asyncio.TaskGroup() as tasks:
            workers = [tasks.create_task(self._work(load)) for _ in range(WORKERS)]
            await load.more(WORKERS)
            yield load
            await load.more(2 * WORKERS)
            for worker in workers:
                worker.cancel()

    async def _work(self, load: Load) -> None:
        while True:
            try:
                status, name = await self.get()
            except aiohttp.ClientError as error:
                load.failures[type(error).__name__] += 1
                continue
            if status == 200:
                load.note(name)
            else:
                load.failures[str(status)] += 1

    async def _start_app(self) -> None:
        self.slow = asyncio.Event()
        self.is_slow_open = asyncio.Event()

        async def slowly(_: web.Request) -> web.Response:
            self.is_slow_open.set()
            await self.slow.wait()
            return web.Response(text="slow")

        async def at_once(_: web.Request) -> web.Response:
            return web.Response(text="hello")

        app = web.Application()
        app.router.add_get("/slow", slowly)
        app.router.add_get("/{path:.*}", at_once)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.app_port = runner.addresses[0][1]

    def _kill(self) -> None:
        """End what is left of Envoy, with or without a record of it."""
        end_all(self.folder)


async def within(limit: timedelta, condition: Callable[[], Awaitable[bool]]) -> None:
    """Poll `condition` (an async callable) until it holds."""
    async with asyncio.timeout(limit.total_seconds()):
        while not await condition():
            await CLOCK.sleep(timedelta(milliseconds=5))
