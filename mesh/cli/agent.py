"""The agent's process: the command started again without what parsed its command line.

typer brings pydantic with it: ten megabytes that every agent would hold for good. So `sidecar` and
`run`, once their words are understood, become the same program again, with the same process id,
arguments and files. What was understood passes through a file in memory.
"""

import asyncio
import gc
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import NoReturn

from mesh import log
from mesh.cli.failures import guarded
from mesh.cli.flags import Flags
from mesh.cli.sidecar_options import Given
from mesh.errors import OutsideError

# The descriptor of that file; see `mesh.__main__`.
VARIABLE = "MESH_AGENT"
# glibc keeps an arena for each of many threads; an agent's are idle, and there the memory stays.
_ARENAS = "MALLOC_ARENA_MAX"
# New objects before the collector looks among them. A commit makes and drops some thousands: with
# Python's 700 the collector runs in the midst of it, and over the whole heap once a minute.
_YOUNG = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """A command line that makes an agent. `command` is what `run` puts beside it."""

    flags: Flags
    given: Given
    command: Sequence[str] = field(default=())
    as_json: bool = False

    def become(self) -> NoReturn:
        """Start it in place of this process.

        Raises:
            UsageError: a setting or a word is wrong; nothing was started.
            OutsideError: there is no room for temporary files.
        """
        self.given.options(self.flags.settings().state)
        try:
            with tempfile.TemporaryFile("w", encoding="utf-8") as file:
                json.dump(asdict(self), file)
                descriptor = os.dup(file.fileno())
        except OSError as error:
            raise OutsideError(
                f"no folder for temporary files can be used: {error.strerror}",
                "let this user write to /tmp, or to the folder that TMPDIR names",
            ) from error
        os.set_inheritable(descriptor, True)  # it outlives exec
        environment = {_ARENAS: "1", **os.environ, VARIABLE: str(descriptor)}
        if _ARENAS not in os.environ:
            environment[VARIABLE] += f" {_ARENAS}"
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606 (ourselves, without a shell)

    def run(self) -> int:
        """Run it in this process, to its end; the exit code."""
        from mesh.cli.wiring import sidecar_ports

        settings = self.flags.settings()
        options = self.given.options(settings.state)
        log.configure("debug" if self.flags.verbose else "warning" if self.command else "info")
        ports = sidecar_ports(settings)
        collect_rarely()
        if self.command:
            from mesh.sidecar.run import run_command

            return asyncio.run(run_command(options, ports, self.command, dict(os.environ)))
        from mesh.cli.announcement import Announcement
        from mesh.sidecar.run import serve

        announcement = Announcement(as_json=self.as_json)
        if asyncio.run(serve(options, ports, announcement.ready)):
            announcement.start_next()
        return 0


def main() -> int:
    """Run the agent that this process was started for; the exit code. Never raises."""
    agent = _received()
    return guarded(agent.run, wants_json=lambda: agent.as_json)


def collect_rarely() -> None:
    """Have the garbage collector suit an agent: most of its objects die without it."""
    gc.set_threshold(_YOUNG)


def _received() -> Agent:
    """What `become` passed on; the environment is as it was before."""
    descriptor, *ours = os.environ.pop(VARIABLE).split()
    for name in ours:
        del os.environ[name]
    with os.fdopen(int(descriptor), encoding="utf-8") as file:
        file.seek(0)
        parts = json.load(file)
    flags, given = Flags(**parts.pop("flags")), Given(**parts.pop("given"))
    return Agent(flags=flags, given=given, **parts)
