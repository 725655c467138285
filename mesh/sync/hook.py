"""The command that is told when a sync does not get on."""

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog

from mesh.model.source import SourceStatus, SyncState

SECONDS = 30.0
_GRACE_SECONDS = 2.0
_MOST_WAITING = 16
_STANDARD_ERROR = 2

_log = structlog.get_logger(__name__)


class Hook:
    """Runs `command` (no shell) with `encode(report)` on its standard input, one at a time, each
    for at most `seconds`. What it prints goes to our standard error.
    """

    def __init__(
        self,
        command: Sequence[str],
        encode: Callable[[SourceStatus], bytes],
        seconds: float = SECONDS,
    ) -> None:
        self._command = command
        self._encode = encode
        self._seconds = seconds
        self._waiting: asyncio.Queue[SourceStatus] = asyncio.Queue(_MOST_WAITING)

    def tell(self, status: SourceStatus) -> None:
        """Run the command for a report that is not good, in its turn; too many are dropped."""
        if status.state is SyncState.SYNCED:
            return
        try:
            self._waiting.put_nowait(status)
        except asyncio.QueueFull:
            _log.warning("the hook is slow; a report is dropped", command=self._command[0])

    async def run(self) -> None:
        """Work until cancelled; a command that runs then is ended."""
        while True:
            await self.run_once(await self._waiting.get())

    async def run_once(self, status: SourceStatus) -> None:
        """Run the command for one report; that it fails is logged, and no more."""
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=_STANDARD_ERROR,
                start_new_session=True,
            )
        except OSError as error:
            _log.warning("the hook cannot be run", command=self._command[0], reason=str(error))
            return
        try:
            async with asyncio.timeout(self._seconds):
                await process.communicate(self._encode(status))
        except TimeoutError:
            _log.warning("the hook took too long", command=self._command[0], seconds=self._seconds)
        finally:
            await _end(process)
        if process.returncode:
            _log.warning("the hook failed", command=self._command[0], code=process.returncode)


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the command and what it started, if it is still there."""
    if process.returncode is not None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_SECONDS):
                await process.wait()
                return
