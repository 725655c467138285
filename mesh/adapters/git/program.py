"""Running the `git` program: without a terminal, in bounded time, all of its children with it."""

import asyncio
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from mesh.errors import OutsideError, RefusedCommit, Unavailable

# What says where another repository is; all else of the user's (SSH, proxies, askpass) stays.
_ELSEWHERE = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_CEILING_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_QUARANTINE_PATH",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
)
_GRACE_SECONDS = 2.0
_CHUNK_BYTES = 1 << 16
_ERRORS_BYTES = 1 << 14
_BLOCK_BYTES = 512  # POSIX `ulimit -f`


@dataclass(frozen=True, slots=True)
class Answer:
    """How git ended and what it said; `errors` is for people, in English."""

    code: int
    output: bytes = field(repr=False)
    errors: str


@dataclass(frozen=True, slots=True)
class Program:
    """Runs git in `folder` (a bare repository) with `settings` over all configuration files."""

    folder: Path
    settings: Mapping[str, str]
    program: str = "git"

    async def run(
        self,
        *arguments: str,
        seconds: float,
        stdin: bytes = b"",
        most_bytes: int,
        file_bytes: int | None = None,
    ) -> Answer:
        """Run one command to its end, or to the end of its time.

        `most_bytes` bounds its output, `file_bytes` every file that it writes.

        Raises:
            Unavailable: it took longer than `seconds`.
            RefusedCommit: it said more than `most_bytes`.
            OutsideError: there is no git here.
        """
        process = await self._start(arguments, file_bytes)
        try:
            async with asyncio.timeout(seconds):
                output, errors = await _converse(process, stdin, most_bytes, arguments[0])
                code = await process.wait()
        except TimeoutError as error:
            raise Unavailable(f"`git {arguments[0]}` took more than {seconds:g} s") from error
        finally:
            await _end(process)
        return Answer(code, output, errors)

    async def _start(
        self, arguments: tuple[str, ...], file_bytes: int | None
    ) -> asyncio.subprocess.Process:
        command = [self.program, *arguments]
        if file_bytes is not None:
            limit = str(file_bytes // _BLOCK_BYTES)
            command = ["/bin/sh", "-c", 'ulimit -f "$0" && exec "$@"', limit, *command]
        try:
            return await asyncio.create_subprocess_exec(
                *command,
                cwd=self.folder,
                env=environment(os.environ, self.folder, self.settings),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,  # no terminal to ask on; one group to end
            )
        except OSError as error:
            raise OutsideError(
                f'the program "{self.program}" cannot be run: {error.strerror}',
                "install git 2.34 or later",
            ) from error


def environment(
    inherited: Mapping[str, str], folder: Path, settings: Mapping[str, str]
) -> dict[str, str]:
    """What git runs in: the user's, less what would lead it to another repository."""
    kept = {name: value for name, value in inherited.items() if name not in _ELSEWHERE}
    count = int(kept.get("GIT_CONFIG_COUNT", "0") or "0")
    for number, (name, value) in enumerate(settings.items(), start=count):
        kept |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    return kept | {
        "GIT_CONFIG_COUNT": str(count + len(settings)),
        "GIT_DIR": str(folder),
        "GIT_NO_LAZY_FETCH": "1",  # we fetch what is missing, in one request
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
    }


async def _converse(
    process: asyncio.subprocess.Process, stdin: bytes, most_bytes: int, what: str
) -> tuple[bytes, str]:
    """All that git says on standard output, and its last words on standard error."""
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_feed(process, stdin))
            output = tasks.create_task(_take(process.stdout, most_bytes, what))
            errors = tasks.create_task(_tail(process.stderr))
    except* RefusedCommit as refused:
        raise refused.exceptions[0] from None
    return output.result(), errors.result()


async def _feed(process: asyncio.subprocess.Process, data: bytes) -> None:
    if process.stdin is None:
        return
    with suppress(BrokenPipeError, ConnectionResetError):  # it ended; its code says why
        process.stdin.write(data)
        await process.stdin.drain()
    process.stdin.close()


async def _take(stream: asyncio.StreamReader | None, most_bytes: int, what: str) -> bytes:
    taken = bytearray()
    while stream is not None and (chunk := await stream.read(_CHUNK_BYTES)):
        taken += chunk
        if len(taken) > most_bytes:
            raise RefusedCommit(f"`git {what}` says more than {most_bytes} bytes")
    return bytes(taken)


async def _tail(stream: asyncio.StreamReader | None) -> str:
    """The last words of a stream; the rest is read and forgotten."""
    kept = b""
    while stream is not None and (chunk := await stream.read(_CHUNK_BYTES)):
        kept = (kept + chunk)[-_ERRORS_BYTES:]
    return kept.decode(errors="replace").strip()


async def _end(process: asyncio.subprocess.Process) -> None:
    """End what still runs of the process's group: git, ssh, helpers. Who holds a stream of ours
    runs, whether git itself has ended or not.
    """
    streams = [stream for stream in (process.stdout, process.stderr) if stream is not None]
    if process.returncode is not None and all(stream.at_eof() for stream in streams):
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_SECONDS):
                for stream in streams:
                    while await stream.read(_CHUNK_BYTES):
                        pass
                await process.wait()
                return
