"""Keeps one Envoy running: adopts it, starts it, restarts it, ends it."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

import structlog

from mesh.adapters.envoy.admin import Admin
from mesh.adapters.envoy.process import (
    Process,
    Record,
    binary_version,
    find_binary,
    last_words,
    launch,
    write_bootstrap,
)
from mesh.errors import OutsideError, Unavailable
from mesh.metrics.statistics import Statistics
from mesh.ports import Clock

_READY_POLL = timedelta(milliseconds=20)
_DRAIN_POLL = timedelta(milliseconds=50)
# Callers that have just learnt of our leaving may still have a request on its way.
_QUIET = timedelta(milliseconds=250)
_END = timedelta(seconds=2)
# Long enough for a busy machine; a process that does not answer for so long serves nobody.
_ADOPTION = timedelta(seconds=3)
_REPLACED = timedelta(seconds=5)
# The first restart is immediate; one that dies young waits ever longer.
_YOUNG = timedelta(seconds=10)
_FIRST_DELAY = timedelta(milliseconds=100)
_LONGEST_DELAY = timedelta(seconds=5)

_MUTE = "its admin interface does not answer"
_DYING = "it has just ended"

_log = structlog.get_logger(__name__)


class EnvoyProcess:
    """A `DataPlane`: the Envoy of `bootstrap` (Envoy's JSON), with its files in `folder`:
    `bootstrap.json`, `envoy.json` (which process it is) and `envoy.log`, all 0600.

    `folder` must exist and be private to its owner; one EnvoyProcess at a time may use it.
    `binary` is Envoy's, by default the one that was installed with the mesh.
    """

    def __init__(
        self,
        *,
        folder: Path,
        bootstrap: Mapping[str, Any],
        clock: Clock,
        binary: Path | None = None,
    ) -> None:
        self._folder = folder.absolute()
        self._bootstrap = bootstrap
        self._clock = clock
        self._binary = binary
        self._node = str(bootstrap["node"]["id"])
        self._admin = Admin(Path(bootstrap["admin"]["address"]["pipe"]["path"]))
        self._is_drained = False
        self._is_decided = asyncio.Event()  # whether what ran before is adopted
        self._restarts = 0

    @property
    def restarts(self) -> int:
        """How often `run` started Envoy again after it had ended by itself."""
        return self._restarts

    @property
    def pid(self) -> int | None:
        """The running Envoy's, by the record; None: none runs."""
        record = self._record()
        return None if record is None else record.process.pid

    @property
    def log(self) -> Path:
        """Where Envoy logs."""
        return self._folder / "envoy.log"

    async def run(self, leave: Callable[[], Awaitable[object]]) -> None:
        """Adopt the running Envoy, else start one; restart it when it dies, at once the first
        time, then with backoff. Cancelling leaves it running. After `drain` none is started.
        Before one that serves and cannot be adopted is ended, `leave` is waited for.

        Raises:
            OutsideError: there is no binary, or the folder cannot be written.
        """
        binary = self._binary or find_binary()
        process = await self._adopt(binary, leave)
        self._is_decided.set()
        delay = timedelta()
        while not self._is_drained:
            born = self._clock.monotonic()
            try:
                process = process or self._start(binary)
                await process.wait(self._clock)
                reason = last_words(self.log)
            except Unavailable as error:
                reason = error.message
            process = None
            if self._is_drained:
                break
            if self._clock.monotonic() - born >= _YOUNG.total_seconds():
                delay = timedelta()
            self._restarts += 1
            _log.warning("envoy ended, restarting", node=self._node, reason=reason)
            await self._clock.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - not a secret
            delay = min(max(2 * delay, _FIRST_DELAY), _LONGEST_DELAY)
        await asyncio.Event().wait()

    async def wait_ready(self) -> None:
        """Return once Envoy answers ready: its first configuration is in force."""
        await self._is_decided.wait()
        while not await self._admin.is_ready():
            await self._clock.sleep(_READY_POLL)

    async def is_ready(self) -> bool:
        """Whether Envoy answers ready now."""
        return await self._admin.is_ready()

    async def statistics(self) -> Statistics:
        """What Envoy has counted since it was started.

        Raises:
            Unavailable: it does not answer.
        """
        return await self._admin.statistics()

    async def drain(self, grace: timedelta) -> None:
        """Tell clients to leave, let open requests and TCP connections finish within `grace`,
        close the listeners, end the process. Nothing is restarted after it.
        """
        self._is_drained = True
        record = self._record()
        if record is not None:
            await self._end(record.process, grace)

    # --- start and adopt ---------------------------------------------------------------------

    @property
    def _record_path(self) -> Path:
        return self._folder / "envoy.json"

    def _record(self) -> Record | None:
        record = Record.read(self._record_path)
        return record if record is not None and record.process.is_running() else None

    def _start(self, binary: Path) -> Process:
        path = self._folder / "bootstrap.json"
        digest = write_bootstrap(path, self._bootstrap)
        process = launch(binary, path, self.log)
        try:
            Record(process, digest).write(self._record_path)
        except BaseException:
            process.signal(SIGKILL)  # nobody would know of it, and it would share the ports
            raise
        _log.info("envoy started", node=self._node, pid=process.pid)
        return process

    async def _adopt(self, binary: Path, leave: Callable[[], Awaitable[object]]) -> Process | None:
        """The Envoy that an earlier agent left, if it is what we would start; else it is ended,
        for two cannot listen on the same addresses.
        """
        record = self._record()
        if record is None:
            await self._end_unrecorded()
            return None
        fault = await self._fault(record, binary)
        if fault is None:
            _log.info("envoy adopted", node=self._node, pid=record.process.pid)
            return record.process
        _log.warning("replacing envoy", node=self._node, pid=record.process.pid, reason=fault)
        if fault is _MUTE:
            record.process.signal(SIGKILL)
        elif fault is not _DYING:
            await leave()
        await self._end(record.process, _REPLACED)
        return None

    async def _fault(self, record: Record, binary: Path) -> str | None:
        """Why the running Envoy is not to be adopted; None: it is."""
        digest = write_bootstrap(self._folder / "bootstrap.json", self._bootstrap)
        if record.bootstrap != digest:
            return "it was started from another bootstrap"
        try:
            async with asyncio.timeout(_ADOPTION.total_seconds()):
                while True:
                    with suppress(Unavailable):
                        info = await self._admin.server_info()
                        break
                    if not record.process.is_running():
                        return _DYING  # killed when it was looked up
                    await self._clock.sleep(_READY_POLL)
        except TimeoutError:
            return _MUTE
        if info.node != self._node:
            return f'it is "{info.node}"'
        version = await binary_version(binary)
        return None if info.version == version else f"it is version {info.version}, not {version}"

    # --- end ---------------------------------------------------------------------------------

    async def _end(self, process: Process, grace: timedelta) -> None:
        try:
            async with asyncio.timeout(grace.total_seconds()):
                await self._admin.leave()
                await self._quiesce()
        except (TimeoutError, OutsideError) as error:
            _log.warning("envoy ends with work open", node=self._node, reason=str(error))
        with suppress(OutsideError):
            await self._admin.quit()
        for number in (SIGTERM, SIGKILL):
            try:
                async with asyncio.timeout(_END.total_seconds()):
                    await process.wait(self._clock)
            except TimeoutError:
                process.signal(number)
        await process.wait(self._clock)
        self._record_path.unlink(missing_ok=True)
        _log.info("envoy ended", node=self._node, pid=process.pid)

    async def _end_unrecorded(self) -> None:
        """End an Envoy whose record was lost: it still answers where ours would."""
        try:
            async with asyncio.timeout(_REPLACED.total_seconds()):
                if (await self._admin.server_info()).node != self._node:
                    return
                _log.warning("replacing envoy", node=self._node, reason="its record is lost")
                await self._admin.quit()
                while True:  # until nobody answers
                    await self._admin.server_info()
                    await self._clock.sleep(_DRAIN_POLL)
        except (TimeoutError, Unavailable):
            return  # there is none, or no more

    async def _quiesce(self) -> None:
        """Wait until nothing is open and nothing new came for a while, then close the listeners
        and let finish what came in between.
        """
        quiet_since = self._clock.monotonic()
        before = await self._admin.load()
        while self._clock.monotonic() - quiet_since < _QUIET.total_seconds():
            await self._clock.sleep(_DRAIN_POLL)
            now = await self._admin.load()
            if now.active or now.total != before.total:
                quiet_since = self._clock.monotonic()
            before = now
        await self._admin.close_listeners()
        while (await self._admin.load()).active:
            await self._clock.sleep(_DRAIN_POLL)
