"""The SQLite file: who may read it, what is wrong with it, and what a person is told."""

import os
import resource
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mesh.adapters.embedded.database import FORMAT, Database, prefix_end
from mesh.adapters.embedded.faults import Busy
from mesh.errors import Conflict, LeaseLost, OutsideError, Unavailable
from mesh.ports import Put, Transaction

SECOND = timedelta(seconds=1)


class Hands:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.time.timestamp()

    async def sleep(self, duration: timedelta) -> None:
        self.time += duration


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mesh.db"


@pytest.fixture
def database(path: Path, clock: Hands) -> Iterator[Database]:
    database = Database(path, clock)
    database.open(create=True)
    yield database
    database.close()


def put(key: str, value: bytes = b"1") -> Transaction:
    return Transaction(puts=(Put(key, value),))


def refusal(path: Path) -> Unavailable:
    with pytest.raises(Unavailable) as refused:
        Database(path, Hands()).open(create=True)
    assert str(path) in refused.value.message
    return refused.value


# --- Files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_files_and_folders_are_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "made" / "by us" / "mesh.db"
    database = Database(path, Hands())
    before = os.umask(umask)
    try:
        database.open(create=True)
        database.commit(put("a"))
        modes = {
            found.name: stat.S_IMODE(found.stat().st_mode)
            for found in (*(tmp_path / "made").rglob("*"), tmp_path / "made")
        }
    finally:
        os.umask(before)
        database.close()
    assert modes == {
        "made": 0o700,
        "by us": 0o700,
        "mesh.db": 0o600,
        "mesh.db-wal": 0o600,
        "mesh.db-shm": 0o600,
    }


def test_a_folder_that_exists_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    database = Database(tmp_path / "mesh.db", Hands())
    database.open(create=True)
    database.close()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_a_power_cut_loses_no_commit(database: Database) -> None:
    """What SQLite promises for these two settings (sqlite.org/pragma.html#pragma_synchronous)."""
    connection = database._ready()
    assert connection.execute("PRAGMA journal_mode").fetchall() == [("wal",)]
    assert connection.execute("PRAGMA synchronous").fetchall() == [(2,)]


def test_a_file_of_a_newer_format_is_refused(database: Database, path: Path) -> None:
    database.commit(put("a"))
    database.close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {FORMAT + 1}")
    connection.close()
    error = refusal(path)
    assert f"has format {FORMAT + 1}; this mesh knows format {FORMAT}" in error.message
    assert "newest mesh" in error.hint


def test_somebody_elses_sqlite_file_is_refused_and_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    before = path.read_bytes()
    assert "not a store of mesh" in refusal(path).message
    assert path.read_bytes() == before


def test_a_file_of_something_else_is_refused(path: Path) -> None:
    path.write_bytes(b"key: value\n" * 1000)
    error = refusal(path)
    assert "is damaged, or no store of mesh" in error.message
    assert "restore a copy" in error.hint


def test_a_damaged_file_is_unavailable_with_the_way_out(database: Database, path: Path) -> None:
    for n in range(50):
        database.commit(put(f"key{n}", bytes(2000)))
    database.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    database.open(create=False)
    with pytest.raises(Unavailable, match="is damaged") as refused:
        database.scan("")
    assert "mesh apply" in refused.value.hint
    database.close()


def test_a_folder_in_the_files_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mesh.db").mkdir()
    with pytest.raises(OutsideError, match=r"mesh\.db"):
        Database(tmp_path / "mesh.db", Hands()).open(create=True)


def test_a_file_that_vanished_is_unavailable_and_a_new_one_is_taken_up(
    database: Database, path: Path, clock: Hands
) -> None:
    database.commit(put("old"))
    for part in path.parent.glob("mesh.db*"):
        part.unlink()
    with pytest.raises(Unavailable, match="is gone"):
        database.commit(put("lost"))
    other = Database(path, clock)
    other.open(create=True)
    other.commit(put("new"))
    assert list(database.scan("")) == ["new"]
    other.close()


def test_who_holds_the_lock_too_long_is_mentioned(database: Database, path: Path) -> None:
    hasty = Database(path, Hands(), busy_seconds=0)
    hasty.open(create=False)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(Busy, match="locked by another process") as refused:
        hasty.commit(put("a"))
    assert "stopped process" in refused.value.hint
    assert hasty.scan("") == {}
    holder.execute("ROLLBACK")
    hasty.commit(put("a"))
    holder.close()
    hasty.close()


SCRIPT = """
import os, sys
from pathlib import Path
from mesh.adapters.clock import SystemClock
from mesh.adapters.embedded.database import Database
from mesh.errors import MeshError
from mesh.ports import Put, Transaction

if os.getuid() == 0:
    os.setuid(int(sys.argv[2]))  # root may write anywhere
database = Database(Path(sys.argv[1]), SystemClock())
try:
    database.open(create=True)
    for n in range(200):
        database.commit(Transaction(puts=(Put(f"key{n}", bytes(10_000)),)))
except MeshError as error:
    print(error.code, error.message, error.hint, sep="|")
"""


def other_user(path: Path, *, user: int = 0, file_bytes: int = -1) -> str:
    """What a process says that commits 2 MB to the store, as `user` if this is root."""

    def limit() -> None:
        if file_bytes >= 0:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))

    return subprocess.run(
        [sys.executable, "-c", SCRIPT, path, str(user)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=limit,
    ).stdout


def test_no_room_is_out_of_space_and_what_was_committed_stays(path: Path, clock: Hands) -> None:
    code, message, hint = other_user(path, file_bytes=600_000).split("|")
    assert code == "out-of-space"
    assert str(path) in message
    assert "free space" in hint
    database = Database(path, clock)
    database.open(create=False)
    found = list(database.scan("", keys_only=True))
    assert 0 < len(found) < 200
    assert sorted(found) == sorted(f"key{n}" for n in range(len(found)))
    database.close()


def test_a_folder_without_the_right_to_write_is_denied() -> None:
    folder = Path(os.path.realpath(f"/tmp/mesh-test-{os.getpid()}"))
    folder.mkdir(mode=0o755)
    folder.chmod(0o555)
    try:
        code, message, hint = other_user(folder / "mesh.db", user=65534).split("|")
    finally:
        folder.rmdir()
    assert code == "denied"
    assert str(folder) in message
    assert "run as the user that owns" in hint


# --- Contents -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix", "inside", "outside"),
    [
        ("a/", "a/\U0010ffff\U0010ffff", "a0"),
        ("a\ud7ff", "a\ud7ff\U0010ffff", "a\ue000"),
        ("a\U0010ffff", "a\U0010ffffz", "b"),
        ("\x7f", "\x7fz", "\x80"),
    ],
)
def test_the_end_of_a_prefix_divides_what_has_it_from_what_follows(
    prefix: str, inside: str, outside: str
) -> None:
    end = prefix_end(prefix)
    assert isinstance(end, str)
    assert prefix.encode() <= inside.encode() < end.encode() <= outside.encode()


def test_a_prefix_after_which_nothing_can_come_ends_behind_all_text(database: Database) -> None:
    keys = ["\U0010ffff", "\U0010ffff\U0010ffff", "\U0010ffffa"]
    database.commit(Transaction(puts=tuple(Put(key, b"") for key in [*keys, "other"])))
    assert list(database.scan("\U0010ffff")) == sorted(keys)


def test_a_version_is_the_change_that_wrote_it(database: Database) -> None:
    database.commit(Transaction(puts=(Put("a", b""), Put("b", b""))))
    database.commit(put("b"))
    database.commit(Transaction(deletes=("a",)))
    database.commit(put("a"))
    assert {key: entry.version for key, entry in database.scan("").items()} == {"a": 4, "b": 2}


def test_a_conflict_changes_nothing_not_even_the_counter(database: Database) -> None:
    database.commit(put("a"))
    stamp = database.news("", None).stamp
    with pytest.raises(Conflict):
        database.commit(Transaction(expect={"a": 0}, puts=(Put("b", b""),)))
    assert database.news("", None).stamp == stamp


def test_news_are_read_only_where_there_are_some(database: Database) -> None:
    first = database.news("a", None)
    assert first.entries == {}
    assert database.news("a", first.stamp).entries is None
    database.commit(put("a"))
    assert list(database.news("a", first.stamp).entries or {}) == ["a"]


def test_a_lease_runs_out_by_the_clock_to_the_microsecond(database: Database, clock: Hands) -> None:
    lease = database.grant(10 * SECOND)
    database.commit(Transaction(puts=(Put("a", b"", lease),)))
    clock.time += 10 * SECOND - timedelta(microseconds=1)
    assert list(database.fetch(["a"])) == ["a"]
    clock.time += timedelta(microseconds=1)
    assert database.fetch(["a"]) == {}
    assert database.scan("") == {}
    with pytest.raises(LeaseLost):
        database.renew(lease, SECOND)
    with pytest.raises(LeaseLost):
        database.commit(Transaction(puts=(Put("b", b"", lease),)))


def test_a_renewed_lease_lives_from_then_on(database: Database, clock: Hands) -> None:
    lease = database.grant(10 * SECOND)
    database.commit(Transaction(puts=(Put("a", b"", lease),)))
    clock.time += 9 * SECOND
    database.renew(lease, 10 * SECOND)
    clock.time += 9 * SECOND
    assert list(database.scan("")) == ["a"]
    clock.time += SECOND
    assert database.scan("") == {}


def test_expiry_is_a_change_that_others_can_see(database: Database, clock: Hands) -> None:
    lease = database.grant(SECOND)
    database.commit(Transaction(puts=(Put("a", b"", lease), Put("b", b""))))
    before = database.news("", None)
    assert not database.is_due(before.soonest_us)
    assert not database.expire()
    clock.time += SECOND
    assert database.is_due(before.soonest_us)
    assert database.expire()
    assert not database.expire()
    after = database.news("", before.stamp)
    assert after.stamp != before.stamp
    assert list(after.entries or {}) == ["b"]
    assert after.soonest_us is None


def test_a_renewal_changes_no_entry(database: Database) -> None:
    lease = database.grant(SECOND)
    before = database.news("", None).stamp
    database.renew(lease, SECOND)
    assert database.news("", None).stamp == before
