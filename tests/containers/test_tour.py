"""The Compose demo: its whole tour by Compose 2, and its start by Compose 1.29."""

import http.client
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from compose.stage import Stage, until

ROOT = Path(__file__).resolve().parents[2]
LOCAL = ROOT / "compose" / "local.env"
TOUR = ROOT / "compose" / "tour"
# A machine that does much else at once takes three times as long as an idle one.
TOUR_SECONDS = 600


def require(condition: bool, what: str) -> None:
    if condition:
        return
    must = os.environ.get("CI") == "true" or os.environ.get("MESH_REQUIRE_DOCKER") == "1"
    (pytest.fail if must else pytest.skip)(what)


@pytest.fixture(scope="module")
def env() -> Mapping[str, str]:
    """With Compose 2."""
    plugins = ROOT / ".tools" / "docker"
    env = {**os.environ, "DOCKER_CONFIG": str(plugins)} if plugins.is_dir() else {**os.environ}
    probe = subprocess.run(["docker", "compose", "version"], env=env, capture_output=True)
    require(probe.returncode == 0, "there is no `docker compose`; run: make images")
    return env


@contextmanager
def touring(env: Mapping[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """The tour; what breaks this off breaks the tour off, which takes away what it started."""
    with subprocess.Popen(
        [TOUR, "--local"],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as tour:
        try:
            yield tour
        except BaseException:
            os.killpg(tour.pid, signal.SIGINT)
            tour.communicate(timeout=TOUR_SECONDS)
            raise


def test_the_tour_is_as_it_should_be(env: Mapping[str, str]) -> None:
    with touring(env) as tour:
        said, _ = tour.communicate(timeout=TOUR_SECONDS)
    assert tour.returncode == 0, said
    assert "FAIL" not in said


def test_a_tour_that_is_broken_off_leaves_nothing(env: Mapping[str, str]) -> None:
    with suppress(KeyboardInterrupt), touring(env) as tour:
        label = f"label=com.docker.compose.project=mesh-tour-{tour.pid}"
        until("something is started", lambda: bool(_there(label)), 90)
        raise KeyboardInterrupt
    assert tour.returncode == 130
    assert not _there(label)


def _there(label: str) -> str:
    words = ("docker", "ps", "--all", "--quiet", "--filter", label)
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def test_what_the_tour_lacks_is_told_before_anything_starts(
    env: Mapping[str, str], tmp_path: Path
) -> None:
    no_engine = {**env, "DOCKER_HOST": f"unix://{tmp_path}/nobody.sock"}
    told = refused(no_engine, "--local")
    assert told.startswith("tour: no Docker engine answers: ")
    assert told.endswith("start one, or set DOCKER_HOST\n")

    (tmp_path / "images.env").write_text("MESH_IMAGE=mesh:dev\nMESH_ETCD_IMAGE=nobody/etcd:0\n")
    told = refused(env, "--env-file", str(tmp_path / "images.env"))
    assert told == "tour: the engine has no image nobody/etcd:0\nmake images\n"


@pytest.mark.parametrize("version", ["1.25.0", "docker-compose version 1.25.0, build 0a186604"])
def test_a_compose_that_is_too_old_is_told(tmp_path: Path, version: str) -> None:
    old = tmp_path / "docker-compose"
    old.write_text(f"#!/bin/sh\necho '{version}'\n")
    old.chmod(0o755)
    found = shutil.which("docker")
    assert found is not None
    # A client without plugins: those of the system count whatever DOCKER_CONFIG says.
    client = tmp_path / "docker"
    client.write_text(f'#!/bin/sh\n[ "$1" != compose ] || exit 1\nexec {found} "$@"\n')
    client.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    told = refused({**os.environ, "PATH": path}, "--local")
    assert told == (
        f'tour: `docker-compose` is "{version}", and the demo needs 1.29 or later\n'
        "install Compose 2\n"
    )


def refused(env: Mapping[str, str], *words: str) -> str:
    """What a tour says that cannot begin."""
    done = subprocess.run([TOUR, *words], env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (3, "")
    return done.stderr


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
