"""What systemd gives a `Type=notify` service: a socket (sd_notify(3)), and what was said to it."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SECONDS = 30.0


class Manager:
    """`address` is the service's NOTIFY_SOCKET."""

    def __init__(self, address: str, listener: socket.socket) -> None:
        self.address = address
        self._listener = listener

    def hear(self) -> str:
        """The next thing that is said. Blocks."""
        return self._listener.recv(4096).decode()


@contextmanager
def service_manager(folder: Path) -> Iterator[Manager]:
    """One that listens in a folder."""
    path = str(folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(SECONDS)
        listener.bind(path)
        yield Manager(path, listener)
