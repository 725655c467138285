"""Who applies, and from which git commit."""

import getpass
import os
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from mesh.operations.reading import STDIN, git_root

GIT_SECONDS = 5.0


def author(folder: Path | None = None) -> str:
    """The name and address that git knows here, else the user of the operating system. Blocks."""
    folder = folder or Path.cwd()
    name = _git(folder, "config", "user.name")
    email = _git(folder, "config", "user.email")
    if name and email:
        return f"{name} <{email}>"
    return name or email or f"{_user()}@{socket.gethostname()}"


def commit_of(paths: Sequence[str]) -> str | None:
    """The commit that is checked out where the documents are, with `-dirty` behind it where
    they differ from it; None outside of git. Blocks.
    """
    files = [os.path.abspath(path) for path in paths if path != STDIN]  # noqa: PTH100
    root = git_root(Path(files[0])) if files else None
    if root is None:
        return None
    commit = _git(root, "rev-parse", "--verify", "HEAD")
    inside = [path for path in files if Path(path).is_relative_to(root)]
    if commit and _git(root, "status", "--porcelain", "--", *inside):
        return f"{commit}-dirty"
    return commit or None


def _git(folder: Path, *arguments: str) -> str:
    """What git says, or nothing where it has nothing to say or is not there."""
    environment = os.environ | {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(  # noqa: S603 (fixed words; paths follow "--")
            ["git", *arguments],  # noqa: S607 (the user's own git)
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no entry in the user database
        return str(os.getuid())
