"""The `mesh` command as a user runs it: a process of its own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 60


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, parsed."""
        return json.loads(self.out)


@dataclass(frozen=True, slots=True)
class Mesh:
    """Runs commands with a state of their own, in `folder`."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """No settings but the state folder; git knows somebody."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MESH_")}
        return kept | {
            "MESH_STATE": str(self.folder / "state"),
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_SYSTEM": "/dev/null",
        }

    def __call__(
        self, *arguments: str, stdin: str = "", environment: dict[str, str] | None = None
    ) -> Ran:
        """Run one command to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "mesh", *arguments],
            cwd=self.folder,
            env=self.environment | (environment or {}),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Ran(done.returncode, done.stdout, done.stderr)
