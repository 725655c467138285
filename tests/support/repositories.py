"""Git repositories of a test's own folder, changed in few words."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

AUTHOR = "Ann Author <ann@example.org>"
SILENT = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
}


@dataclass(frozen=True, slots=True)
class Origin:
    """A repository with a branch `main`; syncs fetch from it."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def make(cls, folder: Path) -> "Origin":
        """An empty one."""
        folder.mkdir(parents=True)
        origin = cls(folder)
        origin.git("init", "--quiet", "--initial-branch=main")
        origin.git("config", "user.name", "Ann Author")
        origin.git("config", "user.email", "ann@example.org")
        # Without it the server says that it cannot filter, and sends everything.
        origin.git("config", "uploadpack.allowFilter", "true")
        return origin

    @property
    def url(self) -> str:
        return f"file://{self.folder}"

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.folder,
            env={**os.environ, **SILENT, **self.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit(self, message: str, *options: str, **files: str | None) -> str:
        """Write `policies/<name>.yaml` for each (None deletes it) and commit; the hash."""
        policies = self.folder / "policies"
        policies.mkdir(exist_ok=True)
        for name, text in files.items():
            file = policies / f"{name}.yaml"
            if text is None:
                file.unlink()
            else:
                file.write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message, *options)
        return self.git("rev-parse", "HEAD")
