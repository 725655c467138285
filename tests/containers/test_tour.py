"""The Compose demo: its whole tour by Compose 2, and its start by Compose 1.29."""

import http.client
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from compose.stage import Stage, until

ROOT = Path(__file__).resolve().parents[2]
LOCAL = ROOT / "compose" / "local.env"
# A machine that does much else at once takes three times as long as an idle one.
TOUR_SECONDS = 600


def require(condition: bool, what: str) -> None:
    if condition:
        return
    must = os.environ.get("CI") == "true" or os.environ.get("MESH_REQUIRE_DOCKER") == "1"
    (pytest.fail if must else pytest.skip)(what)


def test_the_tour_is_as_it_should_be() -> None:
    plugins = ROOT / ".tools" / "docker"
    env = {**os.environ, "DOCKER_CONFIG": str(plugins)} if plugins.is_dir() else {**os.environ}
    probe = subprocess.run(["docker", "compose", "version"], env=env, capture_output=True)
    require(probe.returncode == 0, "there is no `docker compose`; run: make images")
    done = subprocess.run(
        [ROOT / "compose" / "tour", "--local"],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TOUR_SECONDS,
    )
    assert done.returncode == 0, done.stdout
    assert "FAIL" not in done.stdout


def test_compose_1_29_starts_the_same_file() -> None:
    if shutil.which("docker-compose") is None:
        pytest.skip("there is no docker-compose 1.29 here; Compose 2 has taken the tour")
    stage = Stage(LOCAL, ["docker-compose"])
    try:
        stage.up()
        until("the shop answers", lambda: _status(stage.entry) == 200, 90)
    finally:
        left = stage.down()
    assert left == []


def _status(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/", headers={"host": "web"})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()
