"""The command line of this installation, run on the servers of a test."""

import os
import subprocess
import sys

from mesh.errors import OutsideError

COMMAND_SECONDS = 120


def run_mesh(*words: str, store: str) -> str:
    """What `mesh WORDS` prints, on the store of that URL.

    Raises:
        OutsideError: its exit code is not 0; with what it said.
    """
    done = subprocess.run(  # noqa: S603 - the words of a test
        [sys.executable, "-m", "mesh", *words],
        env={**os.environ, "MESH_STORE": store},
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise OutsideError(f"mesh {words[0]} ended with {done.returncode}: {said}")
    return done.stdout
