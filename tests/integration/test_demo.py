"""`mesh demo` as a newcomer runs it: every check holds, Ctrl-C leaves nothing behind."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from tests.support.leftovers import processes_of

SECONDS = 150
INVITATION = "Ctrl-C ends everything"


def test_the_demo_tells_its_story_stays_open_and_leaves_nothing(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MESH_")}
    demo = subprocess.Popen(
        [sys.executable, "-m", "mesh", "demo"],
        env=environment | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    watchdog = threading.Timer(SECONDS, demo.kill)
    watchdog.start()
    try:
        assert demo.stdout is not None
        said = []
        for line in demo.stdout:
            said.append(line)
            if INVITATION in line:
                assert processes_of(tmp_path), "the shop stays open until Ctrl-C"
                demo.send_signal(signal.SIGINT)
        code = demo.wait()
    finally:
        watchdog.cancel()
        demo.kill()
        demo.communicate()
    story = "".join(said)
    assert code == 0, story
    assert story.count("  ok    ") >= 14, story
    assert "FAIL" not in story
    assert "demo: all checks passed" in story
    assert list(tmp_path.glob("mesh-demo-*")) == []
    assert not processes_of(tmp_path)
