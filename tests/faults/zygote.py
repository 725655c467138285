"""Starts `mesh` commands by forking a process that has loaded all of mesh, and kills them in time.

A command's start (Python, imports) takes longer than its work; points of a kill shall fall into the
work. Reads one JSON line per command, {"argv", "out", "within"}, and answers with one: whether it
was killed, and its seconds. Nothing of gRPC runs before the fork.
"""

import json
import os
import select
import signal
import sys
from time import monotonic

import mesh.adapters.embedded
import mesh.adapters.etcd
import mesh.cli.app
import mesh.cli.changes
import mesh.cli.outcomes
import mesh.cli.plans
import mesh.cli.wiring
import mesh.operations.apply  # noqa: F401
from mesh.__main__ import main

_TICK = 0.0005


def run(argv: list[str], out: str) -> None:
    """The command, in the forked process; never returns."""
    descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    sys.argv = ["mesh", *argv]
    code = 70
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        os._exit(code)


def serve() -> None:
    """Until standard input ends."""
    for line in sys.stdin:
        order = json.loads(line)
        began = monotonic()
        pid = os.fork()
        if pid == 0:
            run(order["argv"], order["out"])
        done, code = 0, 0
        while not done and monotonic() - began < order["within"]:
            done, code = os.waitpid(pid, os.WNOHANG)
            select.select([], [], [], _TICK)
        if not done:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        answer = {"killed": not done, "code": code, "seconds": monotonic() - began}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
