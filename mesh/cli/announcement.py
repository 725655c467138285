"""What a sidecar says when it serves: one line on standard output, and a word to systemd."""

import os
import sys
from contextlib import suppress
from importlib.metadata import version

import structlog

from mesh.adapters.systemd import notify
from mesh.cli.ready import ready_json, ready_text
from mesh.sidecar.ports import Ready

# Set for an agent that was started by the one before it: the line was said already, and whoever
# read it may have closed the pipe.
_SUCCESSOR = "MESH_SUCCESSOR_OF"

_log = structlog.get_logger(__name__)


class Announcement:
    """Says once that the sidecar serves; knows how to start the agent that comes after."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._predecessor = os.environ.pop(_SUCCESSOR, None)
        self._id: str | None = None

    def ready(self, ready: Ready) -> None:
        """Whoever reads the line may call."""
        self._id = ready.id
        notify(f"READY=1\nSTATUS={ready_text(ready)}")
        if self._predecessor is not None:
            _log.info("took over", id=ready.id, version=version("mesh"))
            return
        with suppress(OSError):  # it serves, whoever listens
            sys.stdout.write((ready_json(ready) if self._as_json else ready_text(ready)) + "\n")
            sys.stdout.flush()

    def start_next(self) -> None:
        """Become the next agent: the same process id and arguments, the package as it is now.

        The id is given along, so that of several sidecars of one service none takes another's.
        """
        notify("RELOADING=1")
        arguments = sys.orig_argv[1:]
        if self._id is not None and not any(each.split("=")[0] == "--id" for each in arguments):
            arguments += ["--id", self._id]
        environment = os.environ | {_SUCCESSOR: str(os.getpid())}
        os.execve(sys.executable, [sys.executable, *arguments], environment)  # noqa: S606 (ourselves, without a shell)
