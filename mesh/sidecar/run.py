"""A sidecar as a process: alone until a signal, or around one command."""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import structlog

from mesh.errors import MeshError, NoSuchCommand, NotExecutable
from mesh.model.policy import Address
from mesh.sidecar import agent
from mesh.sidecar.options import SidecarOptions
from mesh.sidecar.ports import Ready, SidecarPorts

PATIENCE = timedelta(seconds=30)
# What shells answer for a command that is not there, and for one that may not be run.
_NOT_EXECUTABLE = 126
_SIGNALLED = 128

_ENDING = (signal.SIGTERM, signal.SIGINT)
_FORWARDED = (*_ENDING, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)

_log = structlog.get_logger(__name__)


async def serve(
    options: SidecarOptions, ports: SidecarPorts, on_ready: Callable[[Ready], None]
) -> bool:
    """Run a sidecar until SIGTERM or SIGINT, then drain it; raises what `agent.run` raises.

    SIGHUP hands over instead: the agent ends at once and leaves its Envoy serving for the next
    one to adopt. True means that: the caller shall start that next agent.
    """
    stop, handover = asyncio.Event(), _HandOver()
    with (
        _handling(_ENDING, lambda _: stop.set()),
        _handling((signal.SIGHUP,), lambda _: handover.begin()),
    ):
        try:
            await agent.run(options, ports, on_ready, stop)
        except asyncio.CancelledError:
            handover.end()  # raises where it was not us who cancelled
            return True
    return False


async def run_command(
    options: SidecarOptions,
    ports: SidecarPorts,
    command: Sequence[str],
    environment: Mapping[str, str],
    patience: timedelta = PATIENCE,
) -> int:
    """Run `command` beside a sidecar that serves; its exit code, 128 + N after signal N.

    The command gets `environment` and what `variables` adds. Signals are passed on to it; when it
    has ended, the sidecar drains.

    Raises:
        NoSuchCommand: there is no such program; no sidecar was started.
        NotExecutable: likewise, as it may not be run.
        Unavailable: the sidecar did not serve within `patience`; the command was not started.
        MeshError: as `agent.run`.
    """
    _find(command[0], environment.get("PATH"))
    beside = _Beside(command, environment)
    with _handling(_FORWARDED, beside.signal):
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(agent.run(options, ports, beside.begin, beside.ended, patience))
                return await beside.run()
        except BaseExceptionGroup as group:
            for error in _leaves(group):
                if isinstance(error, MeshError):
                    raise error from None
            raise


def _find(program: str, path: str | None) -> None:
    if shutil.which(program, path=path) is not None:
        return
    if Path(program).is_file():
        raise NotExecutable(f'"{program}" is not executable', f"chmod +x {program}")
    hint = "give its path, or see PATH" if "/" not in program else "look at its spelling"
    raise NoSuchCommand(f'there is no command "{program}"', hint)


def variables(ready: Ready) -> dict[str, str]:
    """What a command needs to go out through its sidecar.

    `http_proxy` is honoured by most programs unchanged; `MESH_OUTBOUND` is for those that are
    not; `MESH_UPSTREAM_<NAME>_<NAMESPACE>` says where a TCP service listens, without the
    namespace too where it is the command's own.
    """
    outbound = _text(ready.outbound)
    found = {
        "MESH_OUTBOUND": outbound,
        "http_proxy": f"http://{outbound}",
        "no_proxy": "localhost,127.0.0.1,::1",
    }
    for service, address in ready.upstreams.items():
        found[_upstream(f"{service.name}_{service.namespace}")] = _text(address)
        if service.namespace == ready.service.namespace:
            found[_upstream(service.name)] = _text(address)
    return found


class _HandOver:
    """The running task's own wish to end and leave everything as it is."""

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._is_begun = False

    def begin(self) -> None:
        """Cancel the task, once."""
        if self._task is not None and not self._is_begun:
            self._is_begun = True
            _log.info("handing over: envoy serves on for the next agent")
            self._task.cancel()

    def end(self) -> None:
        """The cancellation has done its work; call it where it is caught.

        Raises:
            CancelledError: it was somebody else's.
        """
        if self._task is None or not self._is_begun or self._task.uncancel() > 0:
            raise asyncio.CancelledError


class _Beside:
    """The command beside a sidecar: started when that is ready, told of signals."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._command = command
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._early: int = 0
        self._ready: asyncio.Future[Ready | None] = asyncio.get_running_loop().create_future()
        self.ended = asyncio.Event()

    def begin(self, ready: Ready) -> None:
        """The sidecar serves: the command may start."""
        if not self._ready.done():
            self._ready.set_result(ready)

    async def run(self) -> int:
        """Wait until the sidecar is ready, run the command; its exit code."""
        try:
            ready = await self._ready
            return _SIGNALLED + self._early if ready is None else await self._run(ready)
        finally:
            self.ended.set()

    def signal(self, number: int) -> None:
        """Pass a signal on; before the command runs, one that ends it keeps it from starting."""
        if self._process is not None:
            # A terminal sends its signals to the whole foreground group: the command has it.
            is_terminals = number in (signal.SIGINT, signal.SIGQUIT) and _is_foreground()
            if self._process.returncode is None and not is_terminals:
                self._process.send_signal(number)
        elif number not in (signal.SIGUSR1, signal.SIGUSR2) and not self._ready.done():
            self._early = number
            self._ready.set_result(None)

    async def _run(self, ready: Ready) -> int:
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, env={**self._environment, **variables(ready)}
            )
        except OSError as error:
            _log.error("the command cannot be run", command=self._command[0], reason=str(error))
            return _NOT_EXECUTABLE
        try:
            code = await self._process.wait()
        except asyncio.CancelledError:  # the sidecar failed: nothing runs without it
            self._process.terminate()
            await self._process.wait()
            raise
        return code if code >= 0 else _SIGNALLED - code


def _upstream(name: str) -> str:
    return f"MESH_UPSTREAM_{name.upper().replace('-', '_')}"


def _text(address: Address) -> str:
    host = f"[{address.address}]" if ":" in address.address else address.address
    return f"{host}:{address.port}"


def _is_foreground() -> bool:
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def _handling(numbers: Sequence[signal.Signals], act: Callable[[int], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in numbers:
        loop.add_signal_handler(number, act, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
