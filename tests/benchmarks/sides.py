"""Our side of a benchmark: real `mesh` commands and sidecars in a state of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesh.errors import OutsideError
from tests.benchmarks import harness

ANY = "127.0.0.1:0"
PAIR = """\
apiVersion: mesh/v1
kind: Service
metadata: {name: api}
spec: {protocol: http, port: 80}
---
apiVersion: mesh/v1
kind: AccessPolicy
metadata: {name: api}
spec:
  targetRefs: [{kind: Service, name: api}]
  rules:
    - {name: web, action: allow, from: [{service: web}]}
"""


@dataclass(frozen=True, slots=True)
class Mesh:
    """A mesh of its own: a folder, settings, and the commands in it."""

    folder: Path
    settings: Mapping[str, str]

    @property
    def environment(self) -> dict[str, str]:
        """The environment of every command."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MESH_")}
        return kept | {"MESH_STATE": str(self.folder / "state")} | dict(self.settings)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `mesh ARGUMENTS` to its end, whatever its exit code."""
        return subprocess.run(
            [sys.executable, "-m", "mesh", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def apply(self, text: str, *flags: str) -> None:
        """Commit documents as the whole state of source `main`."""
        file = self.folder / "policies.yaml"
        file.write_text(text)
        done = self.command("apply", str(file), "--yes", *flags)
        if done.returncode != 0:
            raise OutsideError(f"mesh apply failed: {done.stdout}{done.stderr}")

    def launch(self, service: str, *flags: str) -> subprocess.Popen[bytes]:
        """Start a sidecar's agent; whoever does it ends it. Its log is SERVICE.log."""
        command = (sys.executable, "-m", "mesh", "sidecar", "--service", service, *flags)
        with (self.folder / f"{service}.log").open("ab") as log:
            return subprocess.Popen(
                [*command, "--output", "json"],
                env=self.environment,
                start_new_session=True,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def ready(self, service: str, agent: subprocess.Popen[bytes]) -> "Sidecar":
        """The sidecar once it said that it serves."""
        line = agent.stdout.readline() if agent.stdout else b""
        if not line.startswith(b'{"ready"'):
            said = line + (agent.stdout.read() if agent.stdout else b"")
            logged = (self.folder / f"{service}.log").read_text()
            raise OutsideError(f"no sidecar of {service}: {said.decode()}{logged}")
        return Sidecar(agent, json.loads(line), self.folder / "state")

    @contextmanager
    def sidecar(self, service: str, app: int | None = None, *flags: str) -> Iterator["Sidecar"]:
        """A running sidecar on free ports, from its ready line to its drained end."""
        at = ("--app", f"127.0.0.1:{app}", "--inbound", ANY) if app else ()
        agent = self.launch(service, *at, "--outbound", ANY, *flags)
        with harness.ending(agent):
            yield self.ready(service, agent)

    def envoys(self) -> list[int]:
        """The Envoys that were started last for each sidecar; they may have ended."""
        records = (self.folder / "state" / "sidecars").glob("*/envoy.json")
        return [int(json.loads(record.read_text())["pid"]) for record in records]


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A sidecar's agent process and what its ready line said."""

    agent: subprocess.Popen[bytes]
    ready: Mapping[str, Any]
    state: Path

    @property
    def outbound(self) -> int:
        """The port that applications send their requests to."""
        return int(str(self.ready["outbound"]).rsplit(":", 1)[1])

    @property
    def envoy_pid(self) -> int:
        """The Envoy that the agent drives."""
        record = self.state / "sidecars" / str(self.ready["id"]) / "envoy.json"
        return int(json.loads(record.read_text())["pid"])


@contextmanager
def pair(folder: Path, app: int) -> Iterator[tuple[Sidecar, Sidecar]]:
    """Start web -> api over two sidecars in front of `app`: api's and web's."""
    with ExitStack() as stack:
        mesh = Mesh(folder, {})
        mesh.apply(PAIR, "--no-wait")
        api = stack.enter_context(mesh.sidecar("api", app))
        web = stack.enter_context(mesh.sidecar("web"))
        harness.answers(web.outbound, "api")
        yield api, web
