"""A word to systemd: sd_notify(3), a datagram to the socket that the service manager names."""

import contextlib
import os
import socket
from collections.abc import Mapping


def notify(state: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Say `state` (lines of `KEY=value`, sd_notify(3)); whether somebody listened.

    Without `$NOTIFY_SOCKET` nobody asked, and nothing happens; a manager that is gone is no
    reason to fail.
    """
    path = environment.get("NOTIFY_SOCKET")
    if not path:
        return False
    # A leading "@" stands for the NUL byte of an abstract socket's name.
    address = "\0" + path[1:] if path.startswith("@") else path
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as talk,
    ):
        talk.sendto(state.encode(), address)
        return True
    return False
