"""What every benchmark needs: processes that end with it, the load generator, a report."""

import json
import shutil
import socket
import statistics
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any, Self

from mesh.errors import OutsideError
from tests.support import leftovers
from tests.support.envoy import binary

HERE = Path(__file__).parent
START_SECONDS = 20


@contextmanager
def workspace() -> Iterator[Path]:
    """A short temporary folder (Unix socket paths end at 107 bytes), removed at the end."""
    folder = leftovers.folder("mesh-bench")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def process(*command: str | Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended with the block."""
    started = subprocess.Popen([str(each) for each in command], start_new_session=True, **options)
    with ending(started):
        yield started


@contextmanager
def ending(started: subprocess.Popen[bytes]) -> Iterator[None]:
    """End a process with the block: in order, else by force."""
    try:
        yield
    finally:
        started.terminate()
        try:
            started.wait(15)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


@contextmanager
def envoy(configuration: Path, *under: str) -> Iterator[subprocess.Popen[bytes]]:
    """A raw Envoy with one worker, as the mesh runs its own; `under` is a command that runs it."""
    flags = ("--concurrency", "1", "--disable-hot-restart", "-l", "error")
    with process(*under, binary(), "-c", configuration, *flags) as started:
        yield started


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def answers(port: int, host: str, path: str = "/", status: int = 200) -> None:
    """Wait until the port answers `status` to that Host."""
    end = monotonic() + START_SECONDS
    last: object = None
    while monotonic() < end:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"host": host})
        try:
            with urllib.request.urlopen(request, timeout=2) as answer:
                last = answer.status
        except urllib.error.HTTPError as error:
            last = error.code
        except OSError as error:
            last = error
        if last == status:
            return
    raise OutsideError(f"port {port} did not answer {status} for {host}: {last}")


def generator(folder: Path) -> Path:
    """The load generator, compiled."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise OutsideError("no C compiler for the load generator", "install gcc or clang")
    program = folder / "load"
    source = HERE / "load.c"
    subprocess.run([compiler, "-O2", "-o", str(program), str(source)], check=True)
    return program


def load(
    program: Path, port: int, *, host: str, connections: int, seconds: float, rate: int = 0
) -> dict[str, float]:
    """One run of the generator; `rate` 0 is a closed loop. Latencies in milliseconds."""
    arguments = (str(port), host, "/", str(connections), str(seconds), str(rate))
    run = subprocess.run([str(program), *arguments], capture_output=True, text=True, check=False)
    if not run.stdout:
        raise OutsideError(f"the load generator failed: {run.stderr.strip()}")
    result: dict[str, float] = json.loads(run.stdout)
    return result


class Background:
    """The load generator at a constant rate, until its block ends."""

    def __init__(self, program: Path, port: int, *, host: str, connections: int, rate: int) -> None:
        arguments = (str(port), host, "/", str(connections), "3600", str(rate))
        self._start = monotonic()
        self._process = subprocess.Popen(
            [program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.seconds = 0.0
        self._out = self._err = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = monotonic() - self._start
        self._process.terminate()
        try:
            self._out, self._err = self._process.communicate(timeout=15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._out, self._err = self._process.communicate()

    def __str__(self) -> str:
        if not self._out:
            return f"THE LOAD BROKE OFF: {self._err.strip()}"
        got = json.loads(self._out)
        failed = got["failed"] + got["missing"]
        shown = "".join(f"\n    {line}" for line in self._err.splitlines())
        return (
            f"{got['requests']} requests in {self.seconds:.0f} s, {failed} not 200; "
            f"p50 {got['p50']:.2f}, p99 {got['p99']:.2f}, worst {got['max']:.0f} ms{shown}"
        )


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def memory_mib(pid: int) -> tuple[float, float]:
    """The process's share of memory (PSS: shared pages counted in parts), and all of it (RSS)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {name: int(size) / 1024 for name, size, *_ in map(str.split, lines)}
    return sizes["Pss:"], sizes["Rss:"]


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return statistics.median(values)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of them lie."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
