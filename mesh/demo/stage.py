"""The demo's processes and folder: all started here, and all gone when it ends."""

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp

from mesh.adapters.clock import SystemClock
from mesh.errors import Unavailable

START_SECONDS = 30.0
STOP_SECONDS = 15.0
COMMAND_SECONDS = 60.0


@dataclass(slots=True)
class Member:
    """One instance of the shop: its program, its sidecar's agent and the addresses."""

    name: str
    service: str
    version: str
    app_port: int
    agent: asyncio.subprocess.Process
    inbound: str
    outbound: str
    id: str
    command: Sequence[str] = field(repr=False, default=())


@dataclass(frozen=True, slots=True)
class Output:
    """What a finished command said."""

    code: int
    out: str
    err: str


class Stage:
    """A folder with a state of its own, and the processes that run in it.

    An async context manager: leaving it ends every process, Envoys included, and removes the
    folder, also after an error or Ctrl-C.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mesh-demo-"))
        self.state = self.folder / "state"
        self.clock = SystemClock()
        self.members: dict[str, Member] = {}
        self._apps: list[asyncio.subprocess.Process] = []
        self._logs = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        agents = [member.agent for member in self.members.values()]
        for group in (agents, self._apps):
            await _end(group)
        for record in self.state.glob("sidecars/*/envoy.json"):
            with suppress(OSError, ValueError, KeyError):
                os.kill(int(json.loads(record.read_text())["pid"]), signal.SIGKILL)
        await self._logs.aclose()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of every process: this stage's state, no other mesh settings."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MESH_")}
        return kept | {"MESH_STATE": str(self.state), "PYTHONUNBUFFERED": "1"}

    async def mesh(self, *arguments: str) -> Output:
        """Run one `mesh` command to its end."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "mesh",
            *arguments,
            env=self.environment,
            cwd=self.folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(COMMAND_SECONDS):
                out, err = await process.communicate()
        except BaseException:
            with suppress(ProcessLookupError):
                process.kill()
            raise
        return Output(process.returncode or 0, out.decode(), err.decode())

    async def start(self, service: str, version: str) -> Member:
        """Start a program of the shop and its sidecar; returns once both serve.

        The program is told its sidecar's outbound address, so the sidecar comes first; it
        registers the instance as soon as the program accepts connections.
        """
        port = _free_port()
        command = (
            *(sys.executable, "-m", "mesh", "sidecar", "--service", service, "--output", "json"),
            *("--app", f"127.0.0.1:{port}", "--meta", f"version={version}"),
            *("--inbound", "127.0.0.1:0", "--outbound", "127.0.0.1:0"),
        )
        name = f"{service}-{version}"
        agent, ready = await self._sidecar(name, command)
        member = Member(
            name=name,
            service=service,
            version=version,
            app_port=port,
            agent=agent,
            inbound=str(ready["inbound"]),
            outbound=str(ready["outbound"]),
            id=str(ready["id"]),
            command=(*command, "--id", str(ready["id"])),
        )
        self.members[name] = member
        program = (sys.executable, "-m", "mesh.demo.shop", service, "--port", str(port))
        options = ("--version", version, "--outbound", member.outbound)
        self._apps.append(await self._spawn(f"{name}.app", (*program, *options)))
        await self.answers(f"http://127.0.0.1:{port}/healthz")
        return member

    async def restart_agent(self, member: Member) -> None:
        """Start a new agent for a member whose agent is dead; it adopts the running Envoy."""
        member.agent, _ = await self._sidecar(member.name, member.command)

    async def answers(self, url: str, status: int = 200, seconds: float = START_SECONDS) -> None:
        """Wait until a GET of `url` gets `status`.

        Raises:
            Unavailable: it did not in time; the message has the last answer.
        """
        last = "no answer"
        try:
            async with asyncio.timeout(seconds), aiohttp.ClientSession() as session:
                while True:
                    try:
                        async with session.get(url) as answer:
                            last = f"{answer.status} {(await answer.text())[:200]}"
                            if answer.status == status:
                                return
                    except aiohttp.ClientError as error:
                        last = str(error)
                    await self.clock.sleep(timedelta(milliseconds=30))
        except TimeoutError:
            raise Unavailable(
                f'"{url}" did not answer {status}: {last}', self._logs_hint()
            ) from None

    async def _sidecar(
        self, name: str, command: Sequence[str]
    ) -> tuple[asyncio.subprocess.Process, Mapping[str, object]]:
        process = await self._spawn(f"{name}.sidecar", command, stdout=asyncio.subprocess.PIPE)
        try:
            async with asyncio.timeout(START_SECONDS):
                line = await process.stdout.readline() if process.stdout else b""
        except BaseException:
            await _end([process])
            raise
        if not line:
            log = (self.folder / f"{name}.sidecar.log").read_text()[-2000:]
            raise Unavailable(f'the sidecar of "{name}" did not start', log)
        ready: Mapping[str, object] = json.loads(line)
        return process, ready

    async def _spawn(
        self, log: str, command: Sequence[str], stdout: int | None = None
    ) -> asyncio.subprocess.Process:
        file = self._logs.enter_context((self.folder / f"{log}.log").open("ab"))
        return await asyncio.create_subprocess_exec(
            *command,
            env=self.environment,
            cwd=self.folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file if stdout is None else stdout,
            stderr=file,
            start_new_session=True,
        )

    def _logs_hint(self) -> str:
        tails = []
        for log in sorted(self.folder.glob("*.log")):
            lines = log.read_text(errors="replace").splitlines()[-3:]
            tails += [f"{log.name}: {line}" for line in lines]
        return "\n".join(tails)


async def _end(processes: Sequence[asyncio.subprocess.Process]) -> None:
    """SIGTERM to all, then SIGKILL to those that are still there after their time."""
    alive = [process for process in processes if process.returncode is None]
    for process in alive:
        with suppress(ProcessLookupError):
            process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            for process in alive:
                await process.wait()
    except TimeoutError:
        for process in alive:
            with suppress(ProcessLookupError):
                process.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
