"""`python -m mesh` and the `mesh` command."""

import os
import signal
import sys


def main() -> None:
    """Run the command line, or the agent that one asked for, and exit with its code."""
    _open_standard_streams()
    # Ctrl-C before anything has begun just ends the process; `guarded` takes it from there.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if "MESH_AGENT" in os.environ:  # mesh.cli.agent.VARIABLE, without an import for every command
        from mesh.cli import agent

        sys.exit(agent.main())
    from mesh.cli.app import run

    sys.exit(run(sys.argv[1:]))


def _open_standard_streams() -> None:
    """Give a stream that the caller closed (`>&-`) to nobody: what is opened next would get its
    number, and with it what is meant for a terminal.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", encoding="utf-8"))


if __name__ == "__main__":
    main()
