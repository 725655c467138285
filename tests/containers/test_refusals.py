"""What is missing of an engine is told, with the remedy, before anything is started."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mesh.errors import OutsideError
from mesh.testing import missing, require

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A socket of an engine that does not run."""
    socket = tmp_path / "nobody.sock"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{socket}")
    return socket


def make_images(**environment: str) -> str:
    """What `make images` says when it fails."""
    command = [sys.executable, "-m", "tools.images"]
    env = os.environ | environment
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr


@pytest.mark.usefixtures("nobody")
def test_containers_without_an_engine() -> None:
    with pytest.raises(OutsideError, match="no Docker engine answers") as refused:
        require("etcd")
    assert refused.value.hint == "start one"


def test_containers_without_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_ETCD_IMAGE", "nobody/etcd:0")
    assert missing("mesh", "etcd") == (
        'there is no image "nobody/etcd:0"; run: make images (or set MESH_ETCD_IMAGE)'
    )


@pytest.mark.usefixtures("nobody")
def test_images_without_an_engine() -> None:
    told = make_images()
    assert told.startswith("images: no Docker engine answers: ")
    assert told.endswith("start one, or set DOCKER_HOST\n")


def test_images_without_a_client(tmp_path: Path) -> None:
    told = make_images(PATH=str(tmp_path))
    assert told == ("images: there is no docker program\ninstall Docker: a client and an engine\n")
