"""B31: from the start of `mesh demo` to the first answer of the shop through the mesh.

Four instances, each with a sidecar of its own, all started on this machine. The demo is then ended.
"""

import signal
import subprocess
import sys
from time import monotonic

from tests.benchmarks import harness

ROUNDS = 3
SERVES = "web -> api -> stock answers"
END_SECONDS = 60


def run() -> None:
    """Print the seconds of each start."""
    took = sorted(_start() for _ in range(ROUNDS))
    each = ", ".join(f"{seconds:.1f}" for seconds in took)
    print(f"  start -> serving: median {harness.median(took):.1f} s ({each})", flush=True)


def _start() -> float:
    start = monotonic()
    demo = subprocess.Popen(
        [sys.executable, "-u", "-m", "mesh", "demo"], stdout=subprocess.PIPE, text=True
    )
    with harness.ending(demo):
        for line in demo.stdout or ():
            if SERVES in line:
                took = monotonic() - start
                break
        else:
            raise SystemExit("the demo ended without serving")
        demo.send_signal(signal.SIGINT)
        demo.communicate(timeout=END_SECONDS)
    return took
