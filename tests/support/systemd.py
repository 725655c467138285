"""A machine with a real systemd on it, in namespaces of this one (tests/support/systemd.sh)."""

import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_suffix(".sh")
BOOT_SECONDS = 60.0
_PATH = "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SYSTEMD = Path("/usr/lib/systemd/systemd")


class Machine:
    """Runs commands beside its process 1, whose pid on this machine is `pid`."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def path(self, inside: str) -> Path:
        """A file of it, as this machine names it."""
        return Path(f"/proc/{self._pid}/root") / inside.lstrip("/")

    def run(self, *command: str, check: bool = True) -> str:
        """What a command prints there, as root."""
        enter = ("nsenter", f"--target={self._pid}", "--mount", "--pid", "--uts", "--ipc")
        done = subprocess.run(
            [*enter, "--cgroup", "--root", "--wd", "env", "-i", _PATH, "LC_ALL=C.UTF-8", *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0 or not check, f"{command}:\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def shown(self, unit: str) -> Mapping[str, str]:
        """The properties of a unit."""
        lines = self.run("systemctl", "show", unit).splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)


@contextmanager
def machine(folder: Path) -> Iterator[Machine]:
    """Boot one; a visible skip where that is not possible."""
    programs = ("bash", "unshare", "nsenter", "mount", "pivot_root")
    if os.geteuid() != 0 or not _SYSTEMD.exists() or not all(map(shutil.which, programs)):
        pytest.skip("needs root, systemd and util-linux: apt-get install systemd util-linux")
    log = folder / "systemd.log"
    place = folder / "machine"
    place.mkdir()
    parts = (str(place), sys.base_prefix, sysconfig.get_path("purelib"), str(ROOT))
    with log.open("wb") as output:
        process = subprocess.Popen(
            [SCRIPT, *parts], stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        yield _booted(process, log)
    finally:
        process.kill()
        process.wait()
        _clear(process.pid)


def _booted(process: "subprocess.Popen[bytes]", log: Path) -> Machine:
    """The machine once its target is reached."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + BOOT_SECONDS
    while time.monotonic() < deadline:
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
            break
        for child in children.read_text().split():
            name = Path(f"/proc/{child}/comm").read_text().strip()
            found = Machine(int(child))
            asked = ("systemctl", "is-active", "mesh-test.target")
            if name == "systemd" and found.run(*asked, check=False) == "active":
                return found
    pytest.skip(f"systemd does not start in namespaces here:\n{log.read_text(errors='replace')}")


def _clear(pid: int) -> None:
    """Remove the control group once the last process in it has ended."""
    for at in (Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup")):
        group = at / f"mesh-test-{pid}"
        deadline = time.monotonic() + BOOT_SECONDS
        while group.exists() and time.monotonic() < deadline:
            for folder, _, _ in os.walk(group, topdown=False):
                with suppress(OSError):  # busy: a process is still ending
                    Path(folder).rmdir()
