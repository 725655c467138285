"""A commit that nobody answers: what `mesh apply` says then, and whether that is so."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.planning import keyspace
from tests.support import wire
from tests.support.command import Mesh, Ran
from tests.support.operations import service, write
from tests.support.servers import Server, etcd
from tests.support.wire import After, Wire

# Of all that an apply sends, only the commit of head names a key of the history.
COMMIT = f"/{keyspace.REVISIONS}".encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with etcd(tmp_path_factory.mktemp("etcd")) as server:
        yield server


class Store:
    """A store of the test's own in the etcd of all."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.port = int(server.endpoint.rpartition(":")[2])
        self.mesh = Mesh(folder)
        self.prefix = folder.name
        write(folder / "p", a=service("api"))

    def over(self, port: int, *words: str) -> Ran:
        environment = {"MESH_STORE": f"etcd://127.0.0.1:{port}/{self.prefix}"}
        return self.mesh(*words, "--output", "json", environment=environment)

    def apply(self, port: int) -> Ran:
        return self.over(port, "apply", "p", "--yes")

    def revisions(self) -> list[int]:
        return [each["revision"] for each in self.over(self.port, "history").json]


@pytest.fixture
def store(server: Server, tmp_path: Path) -> Store:
    return Store(server, tmp_path)


@pytest.mark.parametrize(
    ("delivers", "after"), [(True, After.CUT), (False, After.CUT), (True, After.FREEZE)]
)
def test_a_lost_answer_is_settled_by_reading(store: Store, delivers: bool, after: After) -> None:
    with wire.running(Wire(store.port, COMMIT, delivers, after)) as cut:
        ran = store.apply(cut.port)
    assert cut.is_broken
    assert (ran.code, ran.json["revision"], ran.json["unchanged"]) == (0, 1, False)
    assert store.revisions() == [1]


@pytest.mark.parametrize("delivers", [True, False])
def test_what_cannot_be_settled_is_unknown_and_told_by_the_next_try(
    store: Store, delivers: bool
) -> None:
    with wire.running(Wire(store.port, COMMIT, delivers, After.GONE)) as gone:
        ran = store.apply(gone.port)
    assert ran.code == 3
    error = ran.json["error"]
    assert error["code"] == "outcome-unknown"
    assert "whether revision 1 was committed is unknown" in error["message"]
    assert "run the same command again" in error["hint"]
    assert store.revisions() == ([1] if delivers else [])
    again = store.apply(store.port)
    assert (again.code, again.json["revision"], again.json["unchanged"]) == (0, 1, delivers)
    assert store.revisions() == [1]


def test_somebody_elses_commit_in_its_place_is_told(store: Store) -> None:
    """The own commit never arrived, and head has moved when it is looked at."""

    def overtake() -> None:
        write(store.mesh.folder / "other", b=service("stock"))
        ran = store.over(store.port, "apply", "other", "--yes", "--source", "other")
        assert ran.code == 0, ran.out

    with wire.running(Wire(store.port, COMMIT, False, After.CUT, overtake)) as cut:
        ran = store.apply(cut.port)
    assert (ran.code, ran.json["error"]["code"]) == (1, "stale-plan")
    assert store.revisions() == [1]


def test_a_frozen_etcd_is_unknown_and_its_answer_stands_when_it_thaws(
    store: Store, server: Server
) -> None:
    def freeze() -> None:
        server.signal(signal.SIGSTOP)

    try:
        with wire.running(Wire(store.port, COMMIT, True, After.FREEZE, freeze)) as wired:
            ran = store.apply(wired.port)
    finally:
        server.signal(signal.SIGCONT)
    assert (ran.code, ran.json["error"]["code"]) == (3, "outcome-unknown")
    server.wait_ready()
    again = store.apply(store.port)
    assert (again.code, again.json["revision"]) == (0, 1)
    assert store.revisions() == [1]


def test_ctrl_c_in_a_commit_says_that_nobody_knows(store: Store) -> None:
    with wire.running(Wire(store.port, COMMIT, True, After.FREEZE)) as frozen:
        url = f"etcd://127.0.0.1:{frozen.port}/{store.prefix}"
        with subprocess.Popen(
            [sys.executable, "-m", "mesh", "apply", "p", "--yes"],
            cwd=store.mesh.folder,
            env=store.mesh.environment | {"MESH_STORE": url},
            stderr=subprocess.PIPE,
            text=True,
        ) as child:
            while not frozen.is_broken:
                assert child.poll() is None
            child.send_signal(signal.SIGINT)
            _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "whether the revision is committed is unknown; `mesh history` tells" in err
    assert "Traceback" not in err
