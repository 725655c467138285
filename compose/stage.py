"""The demo as the tour handles it: Compose, containers, the command line, the git repository."""

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
UP_SECONDS = 240
COMMAND_SECONDS = 60
SIDECARS = 7
# Finds the agent by its command line and ends it as the kernel would.
KILL_AGENT = """
import os, pathlib, signal
for process in pathlib.Path("/proc").glob("[0-9]*"):
    words = (process / "cmdline").read_bytes().split(b"\\0")
    if words[1:3] == [b"/opt/app/bin/mesh", b"sidecar"]:
        os.kill(int(process.name), signal.SIGKILL)
        break
else:
    raise SystemExit("there is no agent")
"""


class Failure(Exception):
    """A command that failed, with its last words."""


def run(
    *words: str, text: str = "", env: Mapping[str, str] | None = None, timeout: float = 60
) -> str:
    """A command's standard output.

    Raises:
        Failure: it ended with something else than 0, or not in time.
    """
    try:
        done = subprocess.run(
            words, input=text, capture_output=True, text=True, env=env, timeout=timeout
        )
    except subprocess.TimeoutExpired as error:
        raise Failure(f"{' '.join(words[:4])} took longer than {timeout:.0f} s") from error
    if done.returncode:
        last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-12:])
        raise Failure(f"{' '.join(words[:6])} ended with {done.returncode}\n{last}")
    return done.stdout


def until(what: str, is_so: Callable[[], bool], seconds: float = 30) -> float:
    """Wait until something is so; how many seconds that took.

    Raises:
        Failure: it is not so in time.
    """
    start = time.monotonic()
    while not is_so():
        if time.monotonic() - start > seconds:
            raise Failure(f"{what}: not within {seconds:.0f} s")
        threading.Event().wait(0.1)
    return time.monotonic() - start


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def compose_command() -> list[str]:
    """Compose 2 where it is, else 1.29."""
    if subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0:
        return ["docker", "compose"]
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    raise Failure("neither `docker compose` nor `docker-compose` is here: install Compose")


class Stage:
    """One run of the demo under a project name of its own, on free ports."""

    def __init__(self, environment_file: Path | None, command: list[str] | None = None) -> None:
        self.entry = free_port()
        self.prometheus = free_port()
        self.project = f"mesh-tour-{os.getpid()}"
        self._command = [*(command or compose_command()), "--project-name", self.project]
        self._command += ["--file", str(HERE / "compose.yaml")]
        if environment_file:
            self._command += ["--env-file", str(environment_file)]
        self._env = {
            **os.environ,
            "MESH_ENTRY_PORT": str(self.entry),
            "MESH_PROMETHEUS_PORT": str(self.prometheus),
        }
        self._ids: dict[str, str] = {}

    def compose(self, *words: str, timeout: float = COMMAND_SECONDS) -> str:
        """What Compose prints."""
        return run(*self._command, *words, env=self._env, timeout=timeout)

    def up(self) -> None:
        """Start everything."""
        self.compose("up", "-d", timeout=UP_SECONDS)

    def down(self) -> list[str]:
        """Remove everything; what is still there after that, which should be nothing."""
        self.compose("unpause") if self._paused() else None
        self.compose("down", "--volumes", "--timeout", "3", timeout=UP_SECONDS)
        label = f"label=com.docker.compose.project={self.project}"
        left = [run("docker", "ps", "-aq", "--filter", label)]
        left += [run("docker", kind, "ls", "-q", "--filter", label) for kind in _KINDS]
        return " ".join(left).split()

    def logs(self) -> str:
        """The last lines of everybody."""
        return self.compose("logs", "--tail", "15")

    def container(self, service: str) -> str:
        """A service's container; asked for once, since names differ between Composes."""
        if service not in self._ids:
            self._ids[service] = self.compose("ps", "-q", service).split()[0]
        return self._ids[service]

    def docker(self, verb: str, *services: str) -> None:
        """`docker kill`, `start`, `pause`, ... of services."""
        run("docker", verb, *map(self.container, services))

    @contextmanager
    def without(self, *services: str) -> Iterator[None]:
        """Services killed (-9) at the start of the block and started again at its end."""
        self.docker("kill", *services)
        try:
            yield
        finally:
            self.docker("start", *services)

    def inside(self, service: str, *words: str, text: str = "") -> str:
        """What a command prints in a service's container."""
        return run("docker", "exec", "-i", self.container(service), *words, text=text)

    def mesh(self, *words: str) -> str:
        """What `mesh WORDS` prints."""
        return self.inside("sync", "mesh", *words)

    def status(self) -> dict[str, Any]:
        """`mesh status`."""
        status: dict[str, Any] = json.loads(self.mesh("status", "--output", "json"))
        return status

    def is_in_sync(self, revision: int) -> bool:
        """Whether every sidecar runs head, which is at least that revision."""
        status = self.status()
        states = [sidecar["state"] for sidecar in status["sidecars"]]
        return status["head"] >= revision and states == ["in-sync"] * SIDECARS

    def commit(self, message: str, files: Mapping[str, str]) -> str:
        """Commit files of the policies' folder to the repository; the commit's id."""
        for name, text in files.items():
            self.inside("sync", "sh", "-c", f"cat >/srv/git/policies/{name}", text=text)
        script = 'cd /srv/git && git add -A && git commit -qm "$1" && git rev-parse HEAD'
        return self.inside("sync", "sh", "-c", script, "sh", message).strip()

    def revert(self) -> str:
        """`git revert` of the newest commit; the new one's id."""
        script = "cd /srv/git && git revert --no-edit HEAD >/dev/null && git rev-parse HEAD"
        return self.inside("sync", "sh", "-c", script).strip()

    def etcd_leader(self) -> str:
        """The service that leads etcd."""
        for name in ("etcd1", "etcd2", "etcd3"):
            said = self.inside(name, "etcdctl", "endpoint", "status", "--write-out=json")
            found = json.loads(said)[0]["Status"]
            if found["leader"] == found["header"]["member_id"]:
                return name
        raise Failure("etcd has no leader")

    def _paused(self) -> bool:
        label = f"label=com.docker.compose.project={self.project}"
        return bool(run("docker", "ps", "-q", "--filter", label, "--filter", "status=paused"))


_KINDS = ("network", "volume")
