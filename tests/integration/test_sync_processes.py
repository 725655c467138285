"""`mesh sync` as a process: its exit codes, its webhook and hook, and its end."""

import hashlib
import hmac
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import Mesh
from tests.support.operations import service
from tests.support.repositories import Origin
from tests.support.servers import free_ports
from tests.support.service_manager import service_manager

SECRET = b"0123456789abcdef0123456789abcdef"


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    return Mesh(tmp_path)


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    origin = Origin.make(tmp_path / "origin")
    origin.commit("one", a=service("api"))
    return origin


class Syncing:
    """A sync that runs; its reports are lines of JSON."""

    def __init__(self, child: "subprocess.Popen[str]") -> None:
        self.child = child
        self.is_running = True

    def until(self, **wanted: Any) -> Any:
        """The next report that has these facts."""
        assert self.child.stdout is not None
        for line in self.child.stdout:
            report = json.loads(line)
            if wanted.items() <= report.items():
                return report
        raise AssertionError("it ended")

    def kill(self) -> None:
        """As a power cut: it says nothing more."""
        self.child.kill()
        self.is_running = False


@contextmanager
def syncing(mesh: Mesh, *arguments: str, **environment: str) -> Iterator[Syncing]:
    child = subprocess.Popen(
        [sys.executable, "-m", "mesh", "sync", "--repo", "origin", "--path", "policies",
         "--output", "json", *arguments],  # of an option that is given twice the last one counts
        cwd=mesh.folder,
        env=mesh.environment | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )  # fmt: skip
    try:
        sync = Syncing(child)
        yield sync
        if sync.is_running:
            child.send_signal(signal.SIGTERM)
            assert child.wait(timeout=30) == 0
    finally:
        child.kill()
        child.communicate()


def call(port: int, body: bytes = b'{"ref": "refs/heads/main"}') -> int:
    """Call the webhook as a git server does; the answer's status."""
    digest = hmac.new(SECRET, body, hashlib.sha256).hexdigest()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/",
        data=body,
        headers={"X-Hub-Signature-256": f"sha256={digest}"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return int(answer.status)


def test_once_tells_by_its_exit_code(mesh: Mesh, origin: Origin):
    sync = ("sync", "--repo", "origin", "--path", "policies", "--once")
    done = mesh(*sync, "--output", "json").json
    assert (done["state"], done["revision"]) == ("synced", 1)
    origin.commit("bad", a="kind: Service")
    bad = mesh(*sync, "--output", "json")
    assert bad.code == 1
    assert bad.json["error"]["code"] == "invalid-documents"
    assert bad.json["diagnostics"][0]["file"] == "policies/a.yaml"
    (source,) = mesh("status", "--output", "json").json["sources"]
    assert (source["state"], source["leader"]) == ("refused", None)
    assert "policies/a.yaml:1:1: error[" in mesh("status").out
    away = mesh("sync", "--repo", "https://127.0.0.1:1/mesh.git", "--once")
    assert away.code == 3
    for wrong in (
        ("--repo", "nowhere", "--once"),
        ("--repo", "origin", "--path", "../up"),
        ("--repo", "origin", "--drift", "no"),
        ("--repo", "origin", "--webhook", "127.0.0.1:0"),
        ("--repo", "origin", "--allowed-signers", "none"),
    ):
        assert mesh("sync", *wrong).code == 64


def test_a_commit_is_live_within_a_second_of_the_call(mesh: Mesh, origin: Origin):
    (port,) = free_ports(1)
    secret = mesh.folder / "secret"
    secret.write_bytes(SECRET)
    secret.chmod(0o600)
    told = mesh.folder / "told"
    os.mkfifo(told)
    with syncing(
        mesh, "--interval", "1h", "--webhook", f"127.0.0.1:{port}", "--webhook-secret", "secret",
        "--report", "report.json", "--on-failure", f"sh -c 'cat > {told}'",
    ) as sync:  # fmt: skip
        sync.until(state="synced", revision=1)
        seconds = []
        for number in range(3):  # the machine may be busy with other things
            id = origin.commit("next", a=service(f"web-{number}"))
            start = time.monotonic()
            assert call(port) == 202
            report = sync.until(state="synced", applied=id)
            seconds.append(time.monotonic() - start)
        assert min(seconds) < 1.0
        assert json.loads((mesh.folder / "report.json").read_text()) == report
        origin.commit("bad", a="kind: Service")
        assert call(port) == 202
        assert sync.until(state="refused")["applied"] == id
        # A pipe is read to its end: the hook has had the whole report.
        assert json.loads(told.read_text())["code"] == "invalid-documents"
        (source,) = mesh("status", "--output", "json").json["sources"]
        assert source["leader"].endswith(f":{sync.child.pid}")
    (source,) = mesh("status", "--output", "json").json["sources"]
    assert source["leader"] is None


def test_a_service_manager_is_told_when_it_works(mesh: Mesh, origin: Origin):
    with service_manager(mesh.folder) as manager:
        with syncing(mesh, NOTIFY_SOCKET=manager.address) as sync:
            sync.until(state="synced", revision=1)
            said = {manager.hear(), manager.hear()}
        assert "READY=1" in said
        assert any(each.startswith("STATUS=main: synced at revision 1 with ") for each in said)


def test_a_rollback_holds_until_the_next_commit(mesh: Mesh, origin: Origin):
    with syncing(mesh, "--interval", "100ms") as sync:
        sync.until(state="synced", revision=1)
        origin.commit("two", a=service("web"))
        sync.until(state="synced", revision=2)
        assert mesh("rollback", "1", "--yes").code == 0
        assert sync.until(state="held")["held"] == 3
        origin.commit("three", b=service("stock"))
        sync.until(state="synced", revision=4)
    newest = mesh("history", "--output", "json").json[:2]
    assert [item["restores"] for item in newest] == [None, 1]


def test_another_host_takes_over_when_the_leader_is_killed(mesh: Mesh, origin: Origin):
    store = {"MESH_STORE": f"sqlite://{mesh.folder}/state/mesh.db"}
    here = store | {"MESH_STATE": str(mesh.folder / "here")}
    there = store | {"MESH_STATE": str(mesh.folder / "there")}
    with syncing(mesh, "--interval", "100ms", **there) as second:
        second.until(state="synced", revision=1)
        assert leader(mesh) == second.child.pid
        with syncing(mesh, "--interval", "100ms", **here) as first:
            second.kill()
            origin.commit("two", a=service("web"))
            # Nothing is given back: the lead ends with its lease.
            assert first.until(state="synced", revision=2)["commit"]["subject"] == "two"
            assert leader(mesh) == first.child.pid
            with (
                service_manager(mesh.folder) as manager,
                syncing(mesh, "--interval", "100ms", NOTIFY_SOCKET=manager.address, **there),
            ):
                while manager.hear() != "READY=1":
                    pass  # who comes back stands by
                origin.commit("three", a=service("stock"))
                first.until(state="synced", revision=3)
                assert leader(mesh) == first.child.pid
    assert [item["revision"] for item in mesh("history", "--output", "json").json] == [3, 2, 1]


def leader(mesh: Mesh) -> int:
    """The process that leads the source, by what `mesh status` says."""
    (source,) = mesh("status", "--output", "json").json["sources"]
    return int(source["leader"].rpartition(":")[2])


def test_calls_that_are_repeated_or_come_together_apply_a_commit_once(mesh: Mesh, origin: Origin):
    (port,) = free_ports(1)
    secret = mesh.folder / "secret"
    secret.write_bytes(SECRET)
    secret.chmod(0o600)
    where = ("--webhook", f"127.0.0.1:{port}", "--webhook-secret", "secret")
    with syncing(mesh, "--interval", "1h", *where) as sync:
        sync.until(state="synced", revision=1)
        id = origin.commit("two", a=service("web"))
        with ThreadPoolExecutor(12) as pool:
            assert set(pool.map(lambda _: call(port), range(12))) == {202}
        sync.until(state="synced", applied=id)
        assert call(port) == 202  # the very same call once more
        id = origin.commit("three", a=service("stock"))
        assert call(port) == 202
        assert sync.until(state="synced", applied=id)["revision"] == 3
    assert [item["revision"] for item in mesh("history", "--output", "json").json] == [3, 2, 1]


def test_a_server_that_says_nothing_keeps_no_sync_from_ending(mesh: Mesh):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"git://127.0.0.1:{silent.getsockname()[1]}/mesh.git"
        with syncing(mesh, "--repo", url):
            silent.accept()[0].close()  # the second fetch, that asks why, is left alone
            held, _ = silent.accept()
        held.close()


def test_what_was_rolled_back_is_applied_again_by_resume(mesh: Mesh, origin: Origin):
    sync = ("sync", "--repo", "origin", "--path", "policies", "--once", "--output", "json")
    assert mesh(*sync).json["revision"] == 1
    origin.commit("two", a=service("web"))
    assert mesh(*sync).json["revision"] == 2
    assert mesh("rollback", "1", "--yes").code == 0
    held = mesh(*sync)
    assert (held.code, held.json["state"], held.json["error"]["code"]) == (1, "held", "held")
    assert "--resume" in held.json["error"]["hint"]
    assert mesh(*sync, "--resume").json["revision"] == 4


def test_a_path_that_is_not_there_is_told_with_what_to_do(mesh: Mesh, origin: Origin):
    done = mesh("sync", "--repo", "origin", "--path", "polices", "--once", "--output", "json")
    assert (done.code, done.json["state"]) == (1, "refused")
    error = done.json["error"]
    assert '"polices" of ' in error["message"]
    assert "--allow-empty" in error["hint"]
