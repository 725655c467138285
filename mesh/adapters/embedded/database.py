"""The SQLite file: its schema and its statements.

Everything here blocks; one `Database` belongs to one thread at a time. Many processes may have
the same file open: WAL keeps readers and the one writer out of each other's way, FULL makes a
commit outlive a power cut, and SQLite rolls back what a killed process left half done.
"""

import json
import os
import secrets
import sqlite3
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

from mesh.adapters.embedded.faults import BUSY_SECONDS, translated
from mesh.errors import Conflict, LeaseLost, Unavailable
from mesh.ports import Clock, Entry, LeaseId, Transaction

LAST_BEFORE_SURROGATES, FIRST_AFTER_SURROGATES = "\ud7ff", "\ue000"
FORMAT = 1
# The four bytes at offset 68 of the file by which file(1) and we know a store: "mesh".
APPLICATION_ID = 0x6D657368

SCHEMA = (
    "CREATE TABLE entries (key TEXT PRIMARY KEY, value BLOB NOT NULL,"
    " version INTEGER NOT NULL, lease INTEGER) WITHOUT ROWID",
    "CREATE INDEX entries_by_lease ON entries (lease) WHERE lease IS NOT NULL",
    "CREATE TABLE leases (id INTEGER PRIMARY KEY, deadline_us INTEGER NOT NULL)",
    "CREATE INDEX leases_by_deadline ON leases (deadline_us)",
    "CREATE TABLE counter (version INTEGER NOT NULL)",
    "INSERT INTO counter VALUES (0)",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {FORMAT}",
)

FETCH = """
    SELECT key, value, version FROM entries
    WHERE key IN (SELECT value FROM json_each(:keys))
    AND (lease IS NULL OR lease IN (SELECT id FROM leases WHERE deadline_us > :now))
"""
SCAN = """
    SELECT key, CASE WHEN :keys_only THEN x'' ELSE value END, version FROM entries
    WHERE key >= :start AND key < :end
    AND (lease IS NULL OR lease IN (SELECT id FROM leases WHERE deadline_us > :now))
    ORDER BY key
"""
EXPIRE = "DELETE FROM entries WHERE lease IS NOT NULL AND lease NOT IN (SELECT id FROM leases)"


@dataclass(frozen=True, slots=True)
class Stamp:
    """The state of the file: `opened` counts the files seen at the path, `version` is the
    newest change inside. Equal stamps, equal entries, but for leases that have run out since.
    """

    opened: int
    version: int


@dataclass(frozen=True, slots=True)
class News:
    """The newest stamp, the entries unless they are known, and when the next lease runs out
    (microseconds since 1970; None: there is none).
    """

    stamp: Stamp
    entries: dict[str, Entry] | None
    soonest_us: int | None


def prefix_end(prefix: str) -> str | bytes:
    """What sorts after all keys that start with `prefix`, and before the others that follow.

    SQLite compares text as UTF-8, which sorts as code points do; surrogates are none. After
    the last of them comes any blob: SQLite sorts blobs behind text.
    """
    for at in range(len(prefix) - 1, -1, -1):
        if prefix[at] == LAST_BEFORE_SURROGATES:
            return prefix[:at] + FIRST_AFTER_SURROGATES
        if ord(prefix[at]) < sys.maxunicode:
            return prefix[:at] + chr(ord(prefix[at]) + 1)
    return b""


def make_private(path: Path) -> None:
    """Make the file and the folders that lack, 0600 and 0700 whatever the umask.

    What exists keeps its mode: it may be a folder such as /tmp.
    """
    lacking = [folder for folder in path.parents if not folder.exists()]
    for folder in reversed(lacking):
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
    try:
        made = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    try:
        os.fchmod(made, 0o600)
    finally:
        os.close(made)


class Database:
    """One connection to the file at `path`. `clock` decides which leases have run out; another
    process's lock is waited for `busy_seconds`.
    """

    def __init__(self, path: Path, clock: Clock, busy_seconds: float = BUSY_SECONDS) -> None:
        self.path = path
        self._busy_seconds = busy_seconds
        self._clock = clock
        self._connection: sqlite3.Connection | None = None
        self._identity = (0, 0)
        self._opened = 0

    def open(self, *, create: bool) -> None:
        """Connect, and with `create` make what lacks.

        Raises:
            Busy: others are opening it too; try again.
            Unavailable: no store, not a store, or of a newer format.
            Denied: no right to the file or folder.
            OutOfSpace: no room for it.
        """
        with translated(self.path):
            if create:
                make_private(self.path)
            self._identity = self._seen()
            uri = f"file:{quote(os.fspath(self.path))}?mode=rw"
            connection = sqlite3.connect(
                uri,
                uri=True,
                timeout=self._busy_seconds,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
        self._connection = connection
        self._opened += 1

    def close(self) -> None:
        """Disconnect; a closed one may be opened again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with translated(self.path):
                connection.close()

    def fetch(self, keys: Collection[str]) -> dict[str, Entry]:
        """`Store.fetch`; one statement sees one moment."""
        with translated(self.path):
            rows = self._ready().execute(
                FETCH, {"keys": json.dumps(list(keys)), "now": self._now_us()}
            )
            found = {row[0]: Entry(*row) for row in rows}
        return {key: found[key] for key in keys if key in found}

    def scan(self, prefix: str, *, keys_only: bool = False) -> dict[str, Entry]:
        """`Store.scan`; one statement sees one moment."""
        bounds = {"start": prefix, "end": prefix_end(prefix), "now": self._now_us()}
        with translated(self.path):
            rows = self._ready().execute(SCAN, {**bounds, "keys_only": keys_only})
            return {row[0]: Entry(*row) for row in rows}

    def news(self, prefix: str, stamp: Stamp | None) -> News:
        """What a watch of `prefix` that has seen `stamp` needs to know, at one moment."""
        with translated(self.path):
            connection = self._ready()
            connection.execute("BEGIN")
            try:
                newest = self._stamp(connection)
                ((soonest_us,),) = connection.execute("SELECT min(deadline_us) FROM leases")
                return News(newest, None if newest == stamp else self.scan(prefix), soonest_us)
            finally:
                connection.execute("ROLLBACK")

    def data_version(self) -> Stamp:
        """A value that differs after every change of another connection, a renewal too.

        Reads shared memory and no disk, so an event loop may ask now and then (it costs about
        30 us), on a connection of its own.
        """
        with translated(self.path):
            ((version,),) = self._ready().execute("PRAGMA data_version")
            return Stamp(self._opened, version)

    def is_due(self, deadline_us: int | None) -> bool:
        """Whether a lease with that deadline has run out by now."""
        return deadline_us is not None and deadline_us <= self._now_us()

    def expire(self) -> bool:
        """Remove the keys of leases that have run out; whether there were any."""
        with self._writing() as connection:
            return self._expire(connection)

    def commit(self, transaction: Transaction) -> bool:
        """`Store.commit`; whether any key changed.

        Raises:
            Conflict: an expectation does not hold.
            LeaseLost: a named lease has run out.
        """
        with self._writing() as connection:
            expired = self._expire(connection)
            for key, expected in transaction.expect.items():
                row = connection.execute(
                    "SELECT version FROM entries WHERE key = ?", (key,)
                ).fetchone()
                if (row[0] if row else 0) != expected:
                    raise Conflict(_mismatch(key, expected, row[0] if row else 0))
            for lease in {put.lease for put in transaction.puts} - {None}:
                if not connection.execute("SELECT 1 FROM leases WHERE id = ?", (lease,)).fetchone():
                    raise LeaseLost(f"lease {lease} has run out")
            if not (transaction.puts or transaction.deletes):
                return expired
            version = self._advance(connection)
            connection.executemany(
                "DELETE FROM entries WHERE key = ?", ((key,) for key in transaction.deletes)
            )
            connection.executemany(
                "REPLACE INTO entries (key, value, version, lease) VALUES (?, ?, ?, ?)",
                ((put.key, put.value, version, put.lease) for put in transaction.puts),
            )
            return True

    def grant(self, ttl: timedelta) -> LeaseId:
        """A new lease. Its id is random: a file that was replaced knows no lease of the old."""
        with self._writing() as connection:
            lease = LeaseId(1 + secrets.randbits(62))
            connection.execute(
                "INSERT INTO leases (id, deadline_us) VALUES (?, ?)",
                (lease, self._now_us() + ttl // timedelta(microseconds=1)),
            )
        return lease

    def renew(self, lease: LeaseId, ttl: timedelta) -> None:
        """Give a lease another `ttl`.

        Raises:
            LeaseLost: it has run out.
        """
        with self._writing() as connection:
            now_us = self._now_us()
            renewed = connection.execute(
                "UPDATE leases SET deadline_us = ? WHERE id = ? AND deadline_us > ?",
                (now_us + ttl // timedelta(microseconds=1), lease, now_us),
            )
            if not renewed.rowcount:
                raise LeaseLost(f"lease {lease} has run out")

    def _now_us(self) -> int:
        return int(self._clock.now().timestamp() * 1_000_000)

    def _seen(self) -> tuple[int, int]:
        status = self.path.stat()
        return status.st_dev, status.st_ino

    def _ready(self) -> sqlite3.Connection:
        """The connection; a new one where the path names another file by now.

        An open connection to a file that was removed or replaced would go on reading and
        writing what nobody else sees.
        """
        if self._connection is not None and self._seen() == self._identity:
            return self._connection
        self.close()
        self.open(create=False)
        if self._connection is None:  # pragma: no cover - open sets it or raises
            raise Unavailable(f'the store "{self.path}" is closed')
        return self._connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        if _is_empty(connection):
            self._create(connection)
        # Not before: another process may have made it meanwhile.
        application, form = _marks(connection)
        if application != APPLICATION_ID:
            raise Unavailable(
                f'"{self.path}" is an SQLite file, but not a store of mesh',
                hint="name another path in MESH_STORE",
            )
        if form != FORMAT:
            raise Unavailable(
                f'the store "{self.path}" has format {form}; this mesh knows format {FORMAT}',
                hint="run the newest mesh that is installed on this host",
            )
        connection.execute("PRAGMA synchronous = FULL")

    def _create(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        try:
            if _is_empty(connection):  # else another process was first
                for statement in SCHEMA:
                    connection.execute(statement)
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that holds the write lock; an error rolls back all of it."""
        with translated(self.path):
            connection = self._ready()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def _stamp(self, connection: sqlite3.Connection) -> Stamp:
        ((version,),) = connection.execute("SELECT version FROM counter")
        return Stamp(self._opened, version)

    def _advance(self, connection: sqlite3.Connection) -> int:
        ((version,),) = connection.execute(
            "UPDATE counter SET version = version + 1 RETURNING version"
        ).fetchall()
        return int(version)

    def _expire(self, connection: sqlite3.Connection) -> bool:
        gone = connection.execute("DELETE FROM leases WHERE deadline_us <= ?", (self._now_us(),))
        if not gone.rowcount or not connection.execute(EXPIRE).rowcount:
            return False
        self._advance(connection)
        return True


def _marks(connection: sqlite3.Connection) -> tuple[int, int]:
    ((application,),) = connection.execute("PRAGMA application_id")
    ((form,),) = connection.execute("PRAGMA user_version")
    return application, form


def _is_empty(connection: sqlite3.Connection) -> bool:
    ((tables,),) = connection.execute("SELECT count(*) FROM sqlite_master")
    return bool(tables == 0)


def _mismatch(key: str, expected: int, found: int) -> str:
    if not expected:
        return f'"{key}" exists already, at version {found}'
    if not found:
        return f'"{key}" does not exist; version {expected} was expected'
    return f'"{key}" is at version {found}; version {expected} was expected'
