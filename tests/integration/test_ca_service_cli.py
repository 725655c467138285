"""`mesh token` and `mesh ca serve` as they are typed."""

import json
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import SECONDS, Mesh
from tests.support.service_manager import service_manager


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    return Mesh(tmp_path)


@contextmanager
def serving(
    mesh: Mesh, *arguments: str, **environment: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`mesh ca serve` on a free port, and its line; ended by SIGTERM."""
    with (
        (mesh.folder / "serve.log").open("w") as log,
        subprocess.Popen(
            [sys.executable, "-m", "mesh", "ca", "serve", "--listen", "127.0.0.1:0", *arguments],
            cwd=mesh.folder,
            env=mesh.environment | environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline()
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(SECONDS) == 0


def test_a_token_is_shown_once_and_listed_by_its_id(mesh: Mesh) -> None:
    made = mesh("token", "create", "--service", "web", "--ttl", "90m", "--uses", "2")
    assert made.code == 0
    assert made.out.startswith("mesh_join_")
    assert "2 uses for default/web until" in made.err
    assert "no certificate authority serves this mesh now" in made.err
    more = mesh("token", "create", "--service", "api", "-n", "shop", "--output", "json").json
    assert (more["service"], more["namespace"], more["uses"]) == ("api", "shop", 1)
    listed = mesh("token", "list", "--output", "json")
    assert {item["id"] for item in listed.json} == {more["id"], made.err.split()[1].rstrip(":")}
    assert [item["state"] for item in listed.json] == ["valid", "valid"]
    assert made.out.strip() not in listed.out
    assert mesh("token", "revoke", more["id"]).code == 0
    text = mesh("token", "list").out
    assert "default/web" in text
    assert "shop/api" not in text


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("token", "create"), 64, "--service"),
        (("token", "create", "--service", "Web"), 64, "is no name"),
        (("token", "create", "--service", "web", "--ttl", "soon"), 64, "is no duration"),
        (
            ("token", "create", "--service", "web", "--ttl", "721h"),
            1,
            "live for 720h, not for 721h",
        ),
        (("token", "create", "--service", "web", "--uses", "0"), 64, "--uses"),
        (("token", "revoke", "nothing"), 1, "there is no join token"),
        (("ca", "status"), 1, "make one with: mesh ca init"),
        (("ca", "rotate", "--activate"), 1, "make one with: mesh ca init"),
        (("ca", "rotate", "--root", "--activate"), 64, "they are two steps"),
        (("ca", "rotate", "--activate", "--settle", "1m"), 64, "they are two steps"),
        (("ca", "rotate", "--settle", "1m"), 64, "--settle is for a new root"),
        (("ca", "rotate", "--root", "--settle", "soon"), 64, "is no duration"),
        (("ca", "init", "--trust-domain", "Bad"), 1, "must be of lower-case letters"),
        (("ca", "serve", "--listen", "8443"), 64, "is no HOST:PORT"),
        (("ca", "serve", "--name", "not a name"), 64, "no host name"),
        (("ca", "serve", "--listen", "192.0.2.1:8443"), 3, "cannot listen on 192.0.2.1:8443"),
        (("ca", "serve", "--max-lifetime", "x"), 64, "is no duration"),
        (("ca", "serve", "--max-lifetime", "5ms"), 64, 'may live for "5ms"'),
        (("ca", "serve", "--max-lifetime", "9000h"), 64, "1s to 2160h"),
    ],
)
def test_what_is_wrong_is_told(
    mesh: Mesh, arguments: tuple[str, ...], code: int, message: str
) -> None:
    ran = mesh(*arguments)
    assert (ran.code, message in ran.err) == (code, True), ran.err


def test_the_ready_line_is_what_other_hosts_need(mesh: Mesh) -> None:
    with serving(mesh, "--name", "localhost,127.0.0.1", "--metrics", "127.0.0.1:0") as (_, line):
        words = dict(word.split("=", 1) for word in line.split()[1:])
        assert line.startswith("ready ca=https://localhost:")
        assert words["trust_domain"] == "mesh.local"
        assert words["names"] == "localhost,127.0.0.1"
        status = mesh("ca", "status", "--output", "json").json
        assert words["ca"].endswith(f"?fingerprint={status['certificates'][0]['fingerprint']}")
        found: Any = mesh("status", "--output", "json").json["authority"]
        assert (found["url"], found["alive"]) == (words["ca"], True)
        elsewhere = {"MESH_CA": words["ca"], "MESH_STORE": f"sqlite://{mesh.folder}/state/mesh.db"}
        findings = mesh("doctor", "--output", "json", environment=elsewhere).json["findings"]
        said = {item["check"]: item for item in findings if item["check"].startswith("ca")}
        assert [item["level"] for item in said.values()] == ["ok", "ok"]
        assert "answers and signs" in said["ca"]["message"]
    assert "is not there" in mesh("status").out


def test_a_service_manager_is_told_the_same(mesh: Mesh) -> None:
    with (
        service_manager(mesh.folder) as manager,
        serving(mesh, NOTIFY_SOCKET=manager.address) as (_, line),
    ):
        assert manager.hear() == f"READY=1\nSTATUS={line.strip()}"


def test_as_many_may_connect_as_the_system_lets(mesh: Mesh) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    try:
        with serving(mesh) as (process, line):
            assert line
            limits = Path(f"/proc/{process.pid}/limits").read_text()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    found = next(line for line in limits.splitlines() if line.startswith("Max open files"))
    assert found.split()[3] == found.split()[4]


def test_a_host_of_a_service_makes_no_authority_of_its_own(mesh: Mesh, tmp_path: Path) -> None:
    with serving(mesh) as (_, line):
        url = dict(word.split("=", 1) for word in line.split()[1:])["ca"]
        other = {
            "MESH_STATE": str(tmp_path / "other"),
            "MESH_STORE": f"sqlite://{mesh.folder}/state/mesh.db",
        }
        assert "no certificate" not in mesh("token", "create", "--service", "web").err
        ran = mesh("ca", "init", environment=other)
        assert (ran.code, f'serves this mesh already, at "{url}"' in ran.err) == (1, True), ran.err
        where, other["MESH_CA"] = url.partition("?")[0], url
        for command in ("init", "status", "rotate"):
            ran = mesh("ca", command, environment=other)
            assert (ran.code, f"authority is {where} (MESH_CA)" in ran.err) == (1, True), ran.err
        assert not (tmp_path / "other" / "ca" / "ca.json").exists()


def test_a_port_that_is_taken_and_a_second_authority_are_told(mesh: Mesh, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        ran = mesh("ca", "serve", "--listen", listen)
        assert (ran.code, f"somebody else listens on {listen}" in ran.err) == (3, True)
    with serving(mesh, "--output", "json") as (_, line):
        assert json.loads(line)["ready"] is True
        other = {
            "MESH_STATE": str(tmp_path / "other"),
            "MESH_STORE": f"sqlite://{mesh.folder}/state/mesh.db",
        }
        ran = mesh("ca", "serve", "--listen", "127.0.0.1:0", environment=other)
        assert ran.code == 1
        assert f'another certificate authority serves this mesh, at "{json.loads(line)["ca"]}"' in (
            ran.err
        )
        domain = ("--trust-domain", "other.example")
        ran = mesh("ca", "serve", "--listen", "127.0.0.1:0", *domain, environment=other)
        assert ran.code == 1
        assert '"mesh.local"' in ran.err
