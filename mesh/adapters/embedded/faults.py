"""SQLite's errors, and the system's about its file, as ours."""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mesh.errors import Denied, MeshError, OutcomeUnknown, OutOfSpace, Unavailable

BUSY_SECONDS = 5


class Busy(Unavailable):
    """Another process holds the lock; nothing was done."""


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise what goes wrong inside with the store at `path` as one of ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise _of_sqlite(error, path) from error
    except FileNotFoundError as error:
        raise Unavailable(f'the store "{path}" is gone') from error
    except OSError as error:
        raise _of_system(error, path) from error


_FREE_SPACE = "free space on that disk, or raise the quota or file size limit"
_RESTORE = (
    "stop what uses it, move the file and its -wal and -shm away and restore a copy;"
    " without one, `mesh apply` writes the policies anew"
)
_RIGHTS = "run as the user that owns the file and its folder, on a disk that can be written"

# By SQLite's result codes (sqlite.org/rescode.html): extended ones first, then primary ones.
_ERRORS: dict[int, tuple[type[MeshError], str, str]] = {
    # Write errors other than ENOSPC: a quota or a limit of file size, as a rule.
    sqlite3.SQLITE_IOERR_WRITE: (OutOfSpace, "cannot be written", _FREE_SPACE),
    sqlite3.SQLITE_IOERR_SHMSIZE: (OutOfSpace, "cannot be written", _FREE_SPACE),
    # The frames may be on the disk or not.
    sqlite3.SQLITE_IOERR_FSYNC: (OutcomeUnknown, "could not be flushed to disk", ""),
    sqlite3.SQLITE_FULL: (OutOfSpace, "has no room to grow", _FREE_SPACE),
    sqlite3.SQLITE_BUSY: (
        Busy,
        f"was locked by another process for {BUSY_SECONDS} s",
        "find a stopped process that has the file open, and continue or end it",
    ),
    sqlite3.SQLITE_READONLY: (Denied, "may not be written", _RIGHTS),
    sqlite3.SQLITE_PERM: (Denied, "may not be opened", _RIGHTS),
    sqlite3.SQLITE_CANTOPEN: (Denied, "cannot be opened", _RIGHTS),
    sqlite3.SQLITE_CORRUPT: (Unavailable, "is damaged", _RESTORE),
    sqlite3.SQLITE_NOTADB: (Unavailable, "is damaged, or no store of mesh", _RESTORE),
}


def _of_sqlite(error: sqlite3.Error, path: Path) -> MeshError:
    code = getattr(error, "sqlite_errorcode", 0)
    kind, what, hint = _ERRORS.get(code) or _ERRORS.get(
        code & 0xFF, (Unavailable, "does not work", "")
    )
    return kind(f'the store "{path}" {what}: {error}', hint=hint)


def _of_system(error: OSError, path: Path) -> MeshError:
    message = f'the store "{path}" cannot be used: {error.strerror}'
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return OutOfSpace(message, hint=_FREE_SPACE)
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return Denied(message, hint=_RIGHTS)
    return Unavailable(message)
