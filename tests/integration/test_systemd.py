"""The units as shipped, under a real systemd: ready, reload, restart, kill, stop, the journal."""

import asyncio
import json
import os
import shutil
import stat
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.doc_blocks import blocks
from tests.support.mesh_host import CLOCK, DEADLINE, Host, more
from tests.support.operations import service
from tests.support.repositories import Origin
from tests.support.servers import etcd, free_ports
from tests.support.systemd import ROOT, Machine, machine

DOCUMENTS = """
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
  rules: [{name: web, action: allow, from: [{service: web}]}]
"""
API = "mesh-sidecar@api.service"
PAGE = ROOT / "docs" / "systemd.md"


class Installed:
    """A host on which docs/systemd.md was followed; `outbound` is the way out of `web`."""

    def __init__(self, at: Machine, store: str) -> None:
        self.at = at
        self.outbound = ""
        for unit in (ROOT / "systemd").glob("*.service"):
            at.path(f"/etc/systemd/system/{unit.name}").write_text(unit.read_text())
        at.path("/etc/sysusers.d").mkdir(exist_ok=True)
        sysusers = (ROOT / "systemd" / "mesh.sysusers").read_text()
        at.path("/etc/sysusers.d/mesh.conf").write_text(sysusers)
        at.run("systemd-sysusers")
        at.path("/etc/mesh").mkdir()
        at.path("/etc/mesh/mesh.env").write_text(f"MESH_STORE={store}\n")
        at.run("systemctl", "daemon-reload")

    def sidecar(self, name: str, *arguments: str) -> str:
        """Start `mesh-sidecar@NAME`; where it listens for its program."""
        inbound, outbound = (f"127.0.0.1:{port}" for port in free_ports(2))
        words = " ".join(("--inbound", inbound, "--outbound", outbound, *arguments))
        self.at.path(f"/etc/mesh/{name}.env").write_text(f"MESH_SIDECAR_ARGS={words}\n")
        self.at.run("systemctl", "start", f"mesh-sidecar@{name}")
        return outbound

    def envoy(self, service: str = "api") -> int:
        """The pid of a sidecar's Envoy, in the words of that machine."""
        (file,) = self.at.path("/var/lib/mesh/sidecars").glob(f"*-{service}-1/envoy.json")
        return int(json.loads(file.read_text())["pid"])

    def events(self, unit: str) -> list[str]:
        """What a unit has logged: the event of each line that is JSON."""
        lines = self.at.run("journalctl", "--output=cat", f"--unit={unit}").splitlines()
        return [json.loads(line)["event"] for line in lines if line.startswith("{")]

    def status(self, unit: str, word: str) -> str:
        """What a unit says of itself, once that has a word in it."""
        deadline = time.monotonic() + DEADLINE
        while word not in (text := self.at.shown(unit).get("StatusText", "")):
            log = self.at.run("journalctl", "--output=cat", f"--unit={unit}")
            assert time.monotonic() < deadline, log
        return text

    async def systemctl(self, *words: str) -> None:
        """`systemctl`, while other things go on."""
        await asyncio.to_thread(self.at.run, "systemctl", *words)

    async def logged(self, event: str, before: int) -> None:
        """Return once `api` has logged this more often than `before`."""
        async with asyncio.timeout(DEADLINE):
            while (await asyncio.to_thread(self.events, API)).count(event) <= before:
                await CLOCK.sleep(timedelta(milliseconds=50))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    folder = tmp_path_factory.mktemp("systemd")
    with ExitStack() as stack:
        at = stack.enter_context(machine(folder))
        server = stack.enter_context(etcd(folder))
        host = Installed(at, f"etcd://{server.endpoint}/mesh")
        at.path("/etc/mesh/policies.yaml").write_text(DOCUMENTS)
        store = f"MESH_STORE=etcd://{server.endpoint}/mesh"
        at.run("env", store, "mesh", "apply", "/etc/mesh/policies.yaml", "--yes")
        host.outbound = host.sidecar("web")
        yield host


@asynccontextmanager
async def calling(installed: Installed) -> AsyncIterator[Host]:
    """Two instances of `api`, and who calls them."""
    async with Host() as host:
        apps = host.apps("api", "other")
        installed.sidecar("api", "--app", f"127.0.0.1:{apps['api'].port}")
        other = f"127.0.0.1:{apps['other'].port}"
        installed.sidecar("other", "--service", "api", "--app", other)
        try:
            await host.until(installed.outbound, "api")
            yield host
        finally:
            installed.at.run("systemctl", "stop", "mesh-sidecar@api", "mesh-sidecar@other")


def owner(path: Path) -> tuple[int, int, str]:
    """User and group, and the mode."""
    found = path.lstat()
    return found.st_uid, found.st_gid, oct(stat.S_IMODE(found.st_mode))


async def test_a_unit_is_started_when_its_sidecar_serves(installed: Installed) -> None:
    async with calling(installed):
        shown = installed.at.shown(API)
        assert (shown["ActiveState"], shown["SubState"]) == ("active", "running")
        assert shown["StatusText"].startswith("ready service=default/api id=")
        assert {"envoy started", "registered"} <= set(installed.events(API))
        mesh = int(installed.at.run("id", "--user", "mesh"))
        folder = installed.at.path("/var/lib/mesh")
        for path in (folder, *folder.rglob("*")):
            assert owner(path) == (mesh, mesh, "0o700" if path.is_dir() else "0o600"), path
        status = installed.at.run("cat", f"/proc/{installed.envoy()}/status")
        facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert facts["Uid"].split() == [str(mesh)] * 4
        assert (facts["CapEff"], facts["CapBnd"]) == ("0" * 16, "0" * 16)
        assert (facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2")


async def test_reload_hands_over_without_a_failed_request(installed: Installed) -> None:
    async with calling(installed) as host, host.load(installed.outbound, "api") as counts:
        before, envoy = installed.at.shown(API), installed.envoy()
        await more(counts, 100)
        told = installed.events(API).count("took over")
        await installed.systemctl("reload", API)
        await installed.logged("took over", told)
        await more(counts, 100)
        after = installed.at.shown(API)
        assert (after["ActiveState"], after["NRestarts"]) == ("active", before["NRestarts"])
        assert (after["MainPID"], installed.envoy()) == (before["MainPID"], envoy)
    assert set(counts) == {"200"}


async def test_an_agent_that_is_killed_leaves_its_envoy_to_the_next(installed: Installed) -> None:
    async with calling(installed) as host, host.load(installed.outbound, "api") as counts:
        envoy = installed.envoy()
        await more(counts, 100)
        told = installed.events(API).count("envoy adopted")
        await installed.systemctl("kill", "--kill-whom=main", "--signal=KILL", API)
        await installed.logged("envoy adopted", told)
        await more(counts, 100)
        assert installed.envoy() == envoy
        assert installed.at.shown(API)["NRestarts"] == "1"
    assert set(counts) == {"200"}


async def test_restart_and_stop_drain(installed: Installed) -> None:
    async with calling(installed) as host, host.load(installed.outbound, "api") as counts:
        envoy = installed.envoy()
        await more(counts, 100)
        await installed.systemctl("restart", API)
        assert installed.envoy() != envoy
        await more(counts, 100)
        await installed.systemctl("stop", API)
        await more(counts, 100)
        shown = installed.at.shown(API)
        assert (shown["ActiveState"], shown["Result"]) == ("inactive", "success")
        assert installed.events(API)[-1] == "ended"
        assert not list(installed.at.path("/var/lib/mesh/sidecars").glob("*-api-1/envoy.json"))
    assert set(counts) == {"200"}


def test_the_authority_runs_as_a_user_of_its_own(installed: Installed) -> None:
    (port,) = free_ports(1)
    words = f"--listen 127.0.0.1:{port} --name 127.0.0.1"
    installed.at.path("/etc/mesh/ca.env").write_text(f"MESH_CA_ARGS={words}\n")
    installed.at.run("systemctl", "start", "mesh-ca")
    shown = installed.at.shown("mesh-ca")
    assert (shown["ActiveState"], shown["DynamicUser"]) == ("active", "yes")
    folder = installed.at.path("/var/lib/private/mesh-ca")
    assert oct(stat.S_IMODE(folder.stat().st_mode)) == "0o700"
    assert folder.stat().st_uid not in (0, int(installed.at.run("id", "--user", "mesh")))
    assert list(folder.glob("ca/*"))
    installed.at.run("systemctl", "stop", "mesh-ca")
    assert installed.at.shown("mesh-ca")["Result"] == "success"


def test_the_sync_follows_a_repository(installed: Installed, tmp_path: Path) -> None:
    origin = Origin.make(tmp_path / "origin")
    origin.commit("one", a=service("stock"))
    (port,) = free_ports(1)
    daemon = ("daemon", f"--base-path={tmp_path}", "--export-all", "--reuseaddr")
    where = ("--listen=127.0.0.1", f"--port={port}", str(tmp_path))
    words = f"--repo git://127.0.0.1:{port}/origin --path policies --source stock --interval 1s"
    installed.at.path("/etc/mesh/sync.env").write_text(f"MESH_SYNC_ARGS={words}\n")
    server = subprocess.Popen(["git", *daemon, *where], env={**os.environ, "LC_ALL": "C"})
    try:
        installed.at.run("systemctl", "start", "mesh-sync")
        shown = installed.at.shown("mesh-sync")
        assert (shown["ActiveState"], shown["DynamicUser"]) == ("active", "yes")
        text = installed.status("mesh-sync", "synced")
        assert "by Ann Author <ann@example.org>: one" in text
        installed.at.run("systemctl", "stop", "mesh-sync")
        assert installed.at.shown("mesh-sync")["Result"] == "success"
    finally:
        server.terminate()
        server.wait()


def test_the_sync_may_have_a_key_for_ssh(installed: Installed, tmp_path: Path) -> None:
    at = installed.at
    origin = Origin.make(tmp_path / "origin")
    origin.commit("one", a=service("cart"))
    shutil.copytree(origin.folder, at.path("/srv/shop"))
    # In the place of ssh: whoever has a key that ssh takes may ask for a repository.
    at.path("/usr/local/bin/ssh").write_text(
        '#!/bin/sh\nssh-keygen -y -f "$2" >&2 || exit 255\nunset GIT_DIR\n'
        'export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0="*"\n'
        'for command; do :; done\nexec sh -c "$command"\n'
    )
    at.path("/usr/local/bin/ssh").chmod(0o755)
    at.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/etc/mesh/sync.key")
    (typed,) = [block for block in blocks(PAGE, "sh") if "mesh-git" in block.text]
    at.run("sh", "-e", "-c", typed.text)
    words = "--repo git@git.example:/srv/shop --path policies --source cart --interval 1s"
    at.path("/etc/mesh/sync.env").write_text(f"MESH_SYNC_ARGS={words}\n")
    at.run("systemctl", "start", "mesh-sync")
    assert "by Ann Author <ann@example.org>: one" in installed.status("mesh-sync", "synced")
    at.run("systemctl", "stop", "mesh-sync")
