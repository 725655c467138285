"""Some agents as task groups of one process, told what to do by lines of JSON.

`{"do": "start"}` starts every agent, `{"do": "crash"}` cancels them as a kill would, `{"do":
"report", "since": T}` answers with what was published since and with the process's CPU seconds.
The product's own code runs in each: `mesh.sidecar.agent.run`.
"""

import asyncio
import json
import resource
import socket
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from mesh import log
from mesh.adapters.clock import SystemClock
from mesh.cli.agent import collect_rarely
from mesh.cli.wiring import sidecar_ports
from mesh.model.identity import ServiceName
from mesh.model.policy import Address
from mesh.settings import read_settings
from mesh.sidecar import agent
from mesh.sidecar.options import SidecarOptions
from tests.fleet.standin import StandIn

_TICK = timedelta(milliseconds=5)
ANY = Address("127.0.0.1", 0)
CLOCK = SystemClock()


class Worker:
    """The agents `first` to `last`, each of a service by its number."""

    def __init__(self, folder: Path, settings: Mapping[str, str], numbers: range, services: int):
        self._folder = folder
        self._settings = read_settings({}, dict(settings), None, folder)
        self._services = services
        self._standins = {number: StandIn() for number in numbers}
        self._tasks: list[asyncio.Task[None]] = []
        self._ready = 0
        self.app = ANY

    async def start(self, at_once: int) -> None:
        """Start every agent, so many at a time; returns when each serves."""
        self._ready = 0
        loop = asyncio.get_running_loop()
        for number, standin in self._standins.items():
            while len(self._tasks) - self._ready >= at_once:
                await self._tick()
            self._tasks.append(loop.create_task(self._agent(number, standin)))
        while self._ready < len(self._standins):
            await self._tick()

    async def _tick(self) -> None:
        for task in self._tasks:
            if task.done():
                task.result()
        await CLOCK.sleep(_TICK)

    async def crash(self) -> None:
        """End every agent without a goodbye."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        self._tasks.clear()

    async def _agent(self, number: int, standin: StandIn) -> None:
        options = SidecarOptions(
            service=ServiceName("default", f"s{number % self._services}"),
            state=self._folder / f"host-{number}",
            app=self.app,
            inbound=ANY,
            outbound=ANY,
            id=f"agent-{number:05d}",
        )
        ports = replace(
            sidecar_ports(self._settings),
            data_plane=standin.data_plane,
            configuration_server=standin.server,
        )
        await agent.run(options, ports, self._on_ready, asyncio.Event())

    def _on_ready(self, _: object) -> None:
        self._ready += 1

    def report(self, since: float) -> dict[str, Any]:
        """What was published since that moment, and what this process used."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "published": {
                number: [item for item in standin.published if item[1] >= since]
                for number, standin in self._standins.items()
            },
            "size_bytes": max(standin.size_bytes for standin in self._standins.values()),
            "cpu_seconds": usage.ru_utime + usage.ru_stime,
            "rss_bytes": usage.ru_maxrss * 1024,
        }


def _application() -> Address:
    """What takes connections and hangs up: who asks is an agent, and this costs it little."""
    server = socket.create_server(("127.0.0.1", 0), backlog=1024)
    asyncio.get_running_loop().add_reader(server, lambda: server.accept()[0].close())
    return Address("127.0.0.1", server.getsockname()[1])


async def main(folder: Path, settings: Mapping[str, str], numbers: range, services: int) -> None:
    """Obey until standard input ends."""
    log.configure("error")
    collect_rarely()
    worker = Worker(folder, settings, numbers, services)
    worker.app = _application()
    while line := await asyncio.to_thread(sys.stdin.readline):
        order = json.loads(line)
        answer: Any = None
        match order["do"]:
            case "start":
                await worker.start(order.get("at_once", len(numbers)))
            case "crash":
                await worker.crash()
            case "report":
                answer = worker.report(order["since"])
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    await worker.crash()


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    asyncio.run(
        main(Path(given["folder"]), given["settings"], range(*given["numbers"]), given["services"])
    )
