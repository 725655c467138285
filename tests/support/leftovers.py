"""Processes that a test left behind, found by a folder that only they name (Linux)."""

import os
import signal
from contextlib import suppress
from pathlib import Path


def processes_of(folder: Path) -> list[int]:
    """The pids of the processes whose command line names something in `folder`."""
    inside = os.fsencode(folder) + b"/"
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                if inside in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found


def end_all(folder: Path) -> None:
    """Kill them all; whatever an agent has kept, or lost, of who they are."""
    for pid in processes_of(folder):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
