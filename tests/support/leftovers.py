"""Processes that tests left behind (Linux): found by a folder that only they name, or by a mark
that a run puts into the environment of all that it starts.

`python -m tests.support.leftovers MARK` ends what carries the mark when its standard input ends:
a run that was killed with -9 can end nothing itself.
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

# No name that begins with MESH_: tests keep those from the processes that they start.
VARIABLE = "TESTED_BY"
PATIENCE_SECONDS = 10.0
ROOT = Path(__file__).resolve().parents[2]


def processes_of(folder: Path) -> list[int]:
    """The pids of the processes whose command line names something in `folder`."""
    inside = os.fsencode(folder) + b"/"
    return [pid for pid in _others() if inside in _read(pid, "cmdline")]


def end_all(folder: Path) -> None:
    """Kill them all; whatever an agent has kept, or lost, of who they are."""
    _kill(processes_of(folder))


def mark() -> dict[str, str]:
    """The mark of this run, for a process that is started without the environment."""
    return {VARIABLE: os.environ[VARIABLE]} if VARIABLE in os.environ else {}


def folder(name: str) -> Path:
    """A new temporary folder that bears the mark."""
    return Path(tempfile.mkdtemp(prefix=f"{name}-{os.environ.get(VARIABLE, '')}-"))


@dataclass(frozen=True, slots=True)
class Run:
    """A run of tests: whatever carries its `mark`, in its environment or, as Envoys do which get
    none, in the name of its folder.
    """

    mark: str

    @staticmethod
    @contextmanager
    def marked() -> Iterator["Run"]:
        """Mark what this process starts from now on, and have it ended should this be killed."""
        run = Run(os.urandom(4).hex())
        command = [sys.executable, "-m", "tests.support.leftovers", run.mark]
        with subprocess.Popen(command, stdin=subprocess.PIPE, cwd=ROOT, start_new_session=True):
            os.environ[VARIABLE] = run.mark
            try:
                yield run
            finally:
                del os.environ[VARIABLE]

    def survivors(self) -> dict[int, str]:
        """Who is still there, by process id, as its command line."""
        return {
            pid: _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()
            for pid in _others()
            if self._has_started(pid)
        }

    def wait(self, seconds: float = PATIENCE_SECONDS) -> dict[int, str]:
        """Who is still there after that time; each of them is ended."""
        end = monotonic() + seconds
        while (left := self.survivors()) and monotonic() < end:
            threading.Event().wait(0.05)
        _kill(left)
        return left

    def _has_started(self, pid: int) -> bool:
        command = _read(pid, "cmdline")
        if b"multiprocessing" in command or b"tests.support.leftovers" in command:
            return False  # helpers, which end with this process
        known = f"{VARIABLE}={self.mark}".encode() in _read(pid, "environ").split(b"\0")
        return known or self.mark.encode() in command


def end_as_by_ctrl_c() -> None:
    """Let SIGTERM end this process as SIGINT does: with every `finally` and fixture.

    SIGINT itself is ignored by what a shell starts in its background, and by all that inherits it.
    """
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.default_int_handler)


@contextmanager
def nothing_left() -> Iterator[None]:
    """Around a program that starts processes: none survives it, however it ends."""
    end_as_by_ctrl_c()
    with Run.marked() as run:
        try:
            yield
        finally:
            run.wait()


def _others() -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            yield int(entry.name)


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _kill(pids: Iterator[int] | list[int] | dict[int, str]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.stdin.read()
    _kill(Run(sys.argv[1]).survivors())
