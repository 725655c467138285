"""mesh-keep, the program that outlives an agent in a container."""

import signal
import subprocess
import sys
from pathlib import Path

KEEP = Path(__file__).resolve().parents[2] / "tools" / "images" / "keep"
# Counts its starts in a file; then does what its last word says.
PROGRAM = """
import os, pathlib, signal, sys
place = pathlib.Path(sys.argv[1])
count = int(place.read_text()) + 1 if place.exists() else 1
place.write_text(str(count))
print(count, flush=True)
if count == 1 and sys.argv[2] == "die":
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "usage":
    sys.exit(64)
def told(number, frame):
    print(signal.Signals(number).name, flush=True)
    if number == signal.SIGTERM:
        sys.exit(7)
signal.signal(signal.SIGTERM, told)
signal.signal(signal.SIGHUP, told)
print("ready", flush=True)
while True:
    signal.pause()
"""


def start(place: Path, how: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [KEEP, sys.executable, "-c", PROGRAM, place, how],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Under nohup it is ignored by whoever inherits that, and a shell cannot take it back.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=20)
    return process.returncode, said


def until(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout
    while (line := process.stdout.readline()).strip() != word:
        assert line, f"it ended before it said {word}"


def test_what_dies_is_started_again(tmp_path: Path) -> None:
    with start(tmp_path / "count", "die") as process:
        until(process, "2")
        until(process, "ready")
        assert end(process)[0] == 7
    assert (tmp_path / "count").read_text() == "2"


def test_a_signal_is_passed_on_and_ends_it_with_the_program_s_code(tmp_path: Path) -> None:
    with start(tmp_path / "count", "stay") as process:
        until(process, "ready")
        code, said = end(process)
    assert (code, said.split()) == (7, ["SIGTERM"])


def test_sighup_is_passed_on_and_ends_nothing(tmp_path: Path) -> None:
    with start(tmp_path / "count", "stay") as process:
        until(process, "ready")
        process.send_signal(signal.SIGHUP)
        until(process, "SIGHUP")
        assert end(process)[0] == 7
    assert (tmp_path / "count").read_text() == "1"


def test_what_does_not_mend_itself_is_not_repeated(tmp_path: Path) -> None:
    with start(tmp_path / "count", "usage") as process:
        process.communicate(timeout=20)
        assert process.returncode == 64
