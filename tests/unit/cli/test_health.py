"""What a container's health check sees, asked of small admin sockets."""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mesh.cli.health import examine, is_healthy, main

LIVE = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nLIVE\n"
DRAINING = (
    b"HTTP/1.1 503 Service Unavailable\r\ntransfer-encoding: chunked\r\n\r\n"
    b"9\r\nDRAINING\n\r\n0\r\n\r\n"
)


@pytest.fixture
def state() -> Iterator[Path]:
    # A socket's path holds 107 bytes: pytest's own folders may be longer.
    folder = Path(tempfile.mkdtemp(prefix="mesh-health-"))
    yield folder
    shutil.rmtree(folder)


def bootstrap(state: Path, id: str, text: str | None = None) -> Path:
    folder = state / "sidecars" / id
    folder.mkdir(parents=True)
    place = {"admin": {"address": {"pipe": {"path": str(folder / "admin.sock")}}}}
    (folder / "bootstrap.json").write_text(json.dumps(place) if text is None else text)
    return folder / "admin.sock"


@contextmanager
def envoy(state: Path, id: str, answer: bytes) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(bootstrap(state, id)))
        server.listen()

        def serve() -> None:
            with server.accept()[0] as connection:
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join(10)


def test_a_live_envoy_is_healthy(state: Path) -> None:
    with envoy(state, "a", LIVE):
        found = examine(state)
    assert [(one.id, one.is_serving, one.reason) for one in found] == [("a", True, "LIVE")]
    assert is_healthy(found)


def test_one_that_drains_makes_the_host_unhealthy(state: Path) -> None:
    with envoy(state, "a", LIVE), envoy(state, "b", DRAINING):
        found = examine(state)
    assert [(one.id, one.reason) for one in found] == [("a", "LIVE"), ("b", "DRAINING")]
    assert not is_healthy(found)


def test_the_folder_of_an_id_that_is_no_longer_used_does_not_count(state: Path) -> None:
    bootstrap(state, "gone")
    with envoy(state, "here", LIVE):
        assert is_healthy(examine(state))


def test_no_sidecar_is_not_healthy(state: Path) -> None:
    bootstrap(state, "gone")
    assert not is_healthy(examine(state))


def test_one_that_is_named_must_answer(state: Path) -> None:
    bootstrap(state, "gone")
    assert [one.is_serving for one in examine(state, "gone")] == [False]


def test_a_torn_bootstrap_is_told(state: Path) -> None:
    bootstrap(state, "torn", "{")
    assert [one.is_serving for one in examine(state)] == [False]


def test_an_answer_that_is_none_is_not_healthy(state: Path) -> None:
    with envoy(state, "a", b""):
        assert [one.reason for one in examine(state)] == ["no answer"]


def test_the_check_of_a_container_exits_by_what_it_finds(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main({"MESH_STATE": str(state)}) == 1
    assert "no sidecar runs" in capsys.readouterr().out
    with envoy(state, "a", LIVE):
        assert main({"MESH_STATE": str(state)}) == 0
    assert "a: serving (LIVE)" in capsys.readouterr().out


def test_it_loads_nothing_of_the_mesh_but_itself() -> None:
    code = "import sys, mesh.cli.health; print([m for m in sys.modules if m.startswith('mesh.')])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "['mesh.cli', 'mesh.cli.health']"
