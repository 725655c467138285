"""The authority's folder: `ca.json` (0600, replaced whole) holds certificates and keys, `lock`
serializes changes among the processes of the host; reading takes no lock.

Everything here blocks, but for `unchanged`.
"""

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mesh.ca import record
from mesh.ca.rotation import State
from mesh.errors import CertificateRefused, OutOfSpace, OutsideError

_STATE = "ca.json"
_LOCK = "lock"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO

_Mark = tuple[int, int, int, int]
Change = Callable[[State | None], State]


class Files:
    """The files of one authority. Every method that reads or writes may raise OutsideError: they
    are unreadable, damaged or not writable, and the message names the file.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._state = folder / _STATE
        self._cached: tuple[_Mark, State] | None = None

    @property
    def lock(self) -> Path:
        """The file that is locked by whoever changes the state."""
        return self._folder / _LOCK

    def unchanged(self) -> State | None:
        """The state as it was read last, if the file is still that one: a look at it costs a
        microsecond, reading it a thousand.
        """
        try:
            found = self._state.stat()
        except OSError:
            return None
        return self._cached[1] if self._cached and self._cached[0] == _mark(found) else None

    def load(self) -> State | None:
        """The state on disk, None if there is none; parsed again only when it changed."""
        with self._errors("read"):
            try:
                found = self._state.stat()
            except FileNotFoundError:
                return None
            if found.st_mode & _OTHERS:
                raise OutsideError(
                    f'"{self._state}" holds private keys and its mode '
                    f"{stat.S_IMODE(found.st_mode):04o} lets others at them",
                    f'if nobody read it: chmod 600 "{self._state}"; '
                    "else move it away and start anew",
                )
            if self._cached is None or self._cached[0] != _mark(found):
                self._cached = (_mark(found), self._decode(self._state.read_bytes()))
        return self._cached[1]

    def change(self, change: Change) -> tuple[State | None, State] | None:
        """Replace the state under the lock by what `change` makes of it; before and after.

        None: somebody else holds the lock. All in one call, so that a cancelled caller does not
        give the lock away half-way.
        """
        with self._errors("write"):
            self._make_folder()
            lock = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            with self._errors("write"):
                _give(lock, self._folder)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return None
            before = self.load()
            after = change(before)
            if after != before:
                with self._errors("write"):
                    self._write(record.encode(after))
            return before, after
        finally:
            os.close(lock)

    def _make_folder(self) -> None:
        """The folder and the state's above it, private both."""
        for folder in (self._folder.parent, self._folder):
            if not folder.exists():
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                _give(folder, folder.parent)
        if self._folder.stat().st_mode & _OTHERS:
            self._folder.chmod(0o700)

    def _decode(self, content: bytes) -> State:
        try:
            return record.decode(content)
        except CertificateRefused as error:
            raise OutsideError(
                f'"{self._state}" is damaged: {error.message}',
                "restore it from a backup, or move it away: a new authority is made then, and "
                "every sidecar needs a certificate of it",
            ) from None

    def _write(self, content: bytes) -> None:
        temporary = self._folder / f".{_STATE}.{os.getpid()}"
        temporary.unlink(missing_ok=True)
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(file, "wb") as stream:
                _give(file, self._folder)
                stream.write(content)
                stream.flush()
                os.fsync(file)
            temporary.replace(self._state)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @contextmanager
    def _errors(self, verb: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            path = error.filename or self._folder
            message = f'cannot {verb} the certificate authority: {error.strerror} ("{path}")'
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise OutOfSpace(message, "free space on this disk") from error
            hint = f'its folder "{self._folder}" must belong to this user'
            raise OutsideError(message, hint) from error


def _give(made: int | Path, folder: Path) -> None:
    """To the owner of the folder that it lies in: what root makes, the service's user must read."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.chown(made, owner.st_uid, owner.st_gid)


def _mark(found: os.stat_result) -> _Mark:
    """What changes with every change of a file, its mode included."""
    return found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode
