"""`make faults` and `python -m tests.faults [NAME...]`: do faults and write docs/reliability.md.

`--list` names them. A fault that this machine cannot do is told and left out; one after which the
mesh is not whole again, or that loses an acknowledged commit, makes the command fail.
"""

import asyncio
import sys
import traceback

from tests.faults import agents, discovery, hosts, kills, stores  # noqa: F401 (fills the catalogue)
from tests.faults.catalogue import FAULTS, Skipped, run
from tests.faults.report import Row, record
from tests.support.leftovers import nothing_left


def say(text: str) -> None:
    """A line for whoever runs the command."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(names: list[str]) -> int:
    """Do the named faults, or all."""
    if names == ["--list"]:
        for each in FAULTS.values():
            say(f"{each.name:24} {each.what}")
        return 0
    if unknown := set(names) - set(FAULTS):
        say(f"no fault is named {', '.join(sorted(unknown))}; see --list")
        return 64
    failed = 0
    for name in names or list(FAULTS):
        say(f"{name}: {FAULTS[name].what}")
        try:
            row: Row = asyncio.run(run(FAULTS[name]))
        except Skipped as reason:
            say(f"  left out: {reason}")
            continue
        except Exception:  # noqa: BLE001 (told; the next one is another mesh)
            traceback.print_exc()
            failed += 1
            continue
        say(f"  {row.line()}")
        record([row], list(FAULTS))
        failed += bool(row.lost)
    return 1 if failed else 0


if __name__ == "__main__":
    with nothing_left():
        sys.exit(main(sys.argv[1:]))
