"""What a run of tests leaves behind is found, and ended, however the run ends."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest

from mesh.adapters.envoy.process import start_time
from tests.support.leftovers import ROOT, VARIABLE

# Starts a process that outlives it, says which, and does as it is told.
LEAVES = """
import os, subprocess, sys
from tests.support.leftovers import Run, end_as_by_ctrl_c
end_as_by_ctrl_c()
with Run.marked() as run:
    left = subprocess.Popen(["sleep", "300"], start_new_session=True)
    try:
        print(left.pid, flush=True)
        sys.stdin.read()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    print(list(run.wait(0)), flush=True)
"""


@pytest.fixture
def leaving() -> Iterator[tuple[subprocess.Popen[str], int]]:
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", LEAVES],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if name != VARIABLE},
    ) as process:
        assert process.stdout is not None
        left = int(process.stdout.readline())
        yield process, left
        process.kill()
    with suppress(ProcessLookupError):
        os.kill(left, signal.SIGKILL)


def until_gone(pid: int) -> None:
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            assert select.select([descriptor], [], [], 20)[0], "it lives on"
        finally:
            os.close(descriptor)


def test_who_is_left_is_found_and_ended(leaving: tuple[subprocess.Popen[str], int]) -> None:
    process, left = leaving
    said, _ = process.communicate(timeout=60)
    assert said.strip() == str([left])
    assert start_time(left) is None


def test_sigterm_ends_in_order(leaving: tuple[subprocess.Popen[str], int]) -> None:
    process, left = leaving
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert said.split() == ["interrupted", f"[{left}]"]


def test_who_was_killed_is_cleaned_up_after(leaving: tuple[subprocess.Popen[str], int]) -> None:
    process, left = leaving
    process.send_signal(signal.SIGKILL)
    until_gone(left)
