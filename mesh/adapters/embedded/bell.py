"""How the processes of one host wake one another: an empty datagram after each commit.

Each listener binds a Unix socket in a private folder beside the database; who commits sends to
every socket there. A bell that cannot ring or be heard costs time, never news: watchers also
look once a second. (inotify on SQLite's -wal fires before the commit can be read.)
"""

import asyncio
import hashlib
import os
import secrets
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

# sun_path has 108 bytes on Linux and 104 on macOS, with the closing zero.
MAX_ADDRESS_BYTES = 103
# "/", a process id, "-" and eight digits.
NAME_BYTES = 1 + 10 + 1 + 8


def folder_of(database: Path) -> Path:
    """Where the sockets of that database (an absolute path without links) are.

    `watch` beside it; where a socket's path would be too long, a short folder of this user, by
    the path's hash, which every process derives alike whatever its environment.
    """
    folder = database.parent / "watch"
    if len(os.fsencode(folder)) + NAME_BYTES <= MAX_ADDRESS_BYTES:
        return folder
    digest = hashlib.sha256(os.fsencode(database)).hexdigest()[:16]
    return Path("/tmp") / f"mesh-{os.getuid()}-{digest}"  # noqa: S108 - is_private checks it


def is_private(folder: Path) -> bool:
    """Whether it is a real folder that belongs to this user and is open to nobody else."""
    status = folder.lstat()
    return (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid == os.getuid()
        and not stat.S_IMODE(status.st_mode) & 0o077
    )


class Bell:
    """One process's end: rings the others, and hears them once `listen` was called."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ear: socket.socket | None = None
        self._address: Path | None = None

    def listen(self, heard: Callable[[], None]) -> None:
        """Call `heard` in the running loop after each ring, until `close`.

        Where the folder cannot be used nothing is heard. A name is never used twice: a ringer
        that found a dead socket removes its name, which must not be a living one's by then.
        """
        ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        address = self._folder / f"{os.getpid()}-{secrets.token_hex(4)}"
        try:
            ear.setblocking(False)
            with suppress(FileExistsError):
                self._folder.mkdir(mode=0o700)
                self._folder.chmod(0o700)  # whatever the umask
            if not is_private(self._folder):
                raise PermissionError
            ear.bind(os.fspath(address))
            address.chmod(0o600)
        except OSError:
            ear.close()
            return

        def drain() -> None:
            with suppress(OSError):
                while True:
                    ear.recv(1)
            heard()

        asyncio.get_running_loop().add_reader(ear, drain)
        self._ear, self._address = ear, address

    def ring(self) -> None:
        """Wake every listener of every process; may be called from any thread."""
        with (
            suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as mouth,
            os.scandir(self._folder) as listeners,
        ):
            mouth.setblocking(False)
            for listener in listeners:
                try:
                    mouth.sendto(b"", listener.path)
                except ConnectionRefusedError:  # its process died
                    with suppress(OSError):
                        Path(listener.path).unlink()
                except OSError:
                    continue  # EAGAIN: it has a call waiting already; ENOENT: it just left

    def close(self) -> None:
        """Hear no more; the socket's file goes too."""
        ear, self._ear = self._ear, None
        if ear is not None:
            asyncio.get_running_loop().remove_reader(ear)
            ear.close()
        if self._address is not None:
            self._address.unlink(missing_ok=True)
            self._address = None
