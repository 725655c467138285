"""The demo as the tour handles it: Compose, containers, the command line, the git repository."""

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from compose.engine import Failure, compose_command, pulled, require_images, run

HERE = Path(__file__).resolve().parent
UP_SECONDS = 240
COMMAND_SECONDS = 60
SIDECARS = 7
# A watch that is left behind in a container ends by itself.
WATCH_SECONDS = 900
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


class Stage:
    """One run of the demo under a project name of its own, on free ports.

    Raises:
        Failure: Compose, or an image of the environment file, is missing.
    """

    def __init__(self, environment_file: Path | None, command: list[str] | None = None) -> None:
        self._command = [*(command or compose_command())]
        if environment_file:
            require_images(environment_file)
        self.entry = free_port()
        self.prometheus = free_port()
        self.project = f"mesh-tour-{os.getpid()}"
        self._command += ["--project-name", self.project, "--file", str(HERE / "compose.yaml")]
        if environment_file:
            self._command += ["--env-file", str(environment_file)]
        self._env = {
            **os.environ,
            "MESH_ENTRY_PORT": str(self.entry),
            "MESH_PROMETHEUS_PORT": str(self.prometheus),
        }
        self._ids: dict[str, str] = {}
        self._newest: dict[str, Any] = {"head": 0, "sidecars": [], "sources": []}

    def compose(self, *words: str, timeout: float = COMMAND_SECONDS) -> str:
        """What Compose prints."""
        return run(*self._command, *words, env=self._env, timeout=timeout)

    def up(self) -> None:
        """Start everything."""
        try:
            self.compose("up", "-d", timeout=UP_SECONDS)
        except Failure as failure:
            raise pulled(failure) from failure

    def down(self) -> list[str]:
        """Remove everything; what is still there after that, which should be nothing. What the
        engine was about to make when a start was broken off appears late: so twice.
        """
        left = self._remove()
        return self._remove() if left else left

    def _remove(self) -> list[str]:
        self.compose("unpause") if self._paused() else None
        self.compose("down", "--volumes", "--timeout", "3", timeout=UP_SECONDS)
        label = f"label=com.docker.compose.project={self.project}"
        left = [run("docker", "ps", "-aq", "--filter", label)]
        left += [run("docker", kind, "ls", "-q", "--filter", label) for kind in _KINDS]
        return " ".join(left).split()

    def logs(self, service: str | None = None) -> str:
        """The last lines of a service, or of everybody."""
        return self.compose("logs", "--tail", "20", *([service] if service else []))

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

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Follow `mesh status --watch`: asking anew all the time would cost a core."""
        watch = ("timeout", str(WATCH_SECONDS), "mesh", "status", "--watch", "--output", "json")
        command = ["docker", "exec", self.container("sync"), *watch]
        with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
            reader = threading.Thread(target=self._follow, args=[process.stdout])
            reader.start()
            try:
                yield
            finally:
                process.kill()
                reader.join()

    def _follow(self, lines: IO[bytes]) -> None:
        for line in lines:
            self._newest = json.loads(line)

    def status(self) -> dict[str, Any]:
        """What `mesh status` says now, while `watching`."""
        return self._newest

    def is_in_sync(self, revision: int) -> bool:
        """Whether every sidecar runs head, which is at least that revision."""
        status = self.status()
        states = [sidecar["state"] for sidecar in status["sidecars"]]
        return status["head"] >= revision and states == ["in-sync"] * SIDECARS

    def commit(self, message: str, name: str, text: str) -> str:
        """Commit a file of the policies' folder to the repository; the commit's id."""
        script = (
            'cd /srv/git && cat >policies/"$1" && git add -A && git commit -qm "$2" '
            "&& git rev-parse HEAD"
        )
        return self.inside("sync", "sh", "-c", script, "sh", name, message, text=text).strip()

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
