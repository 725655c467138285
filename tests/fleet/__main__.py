"""`make fleet` and `python -m tests.fleet [SIZE...]`: measure fleets and write docs/fleet.md.

Sizes are numbers of agents, 10, 50, 100 and 200 where none is given. MESH_FLEET_COMMITS, _STORM
(seconds) and _RESTARTS make it shorter or longer.
"""

import asyncio
import json
import os
import platform
import statistics
import sys
from dataclasses import asdict
from pathlib import Path

from tests.fleet import figures as measure
from tests.fleet.figures import Figures, percentile
from tests.fleet.fleet import CLOCK, fleet
from tests.fleet.page import write
from tests.support.leftovers import nothing_left

COMMITS = int(os.environ.get("MESH_FLEET_COMMITS", "30"))
STORM = float(os.environ.get("MESH_FLEET_STORM", "60"))
RESTARTS = int(os.environ.get("MESH_FLEET_RESTARTS", "10"))
RAW = Path(__file__).resolve().parents[2] / "docs" / "fleet.json"


async def measured(size: int) -> tuple[Figures, float]:
    """Every figure of one size, and the bytes of a watch and a lease."""
    found = Figures(size)
    async with fleet(size) as made:
        await measure.begin(made, found)
        await measure.at_rest(made, found, 15)
        await measure.commits(made, found, COMMITS)
        await measure.restarts(made, found, RESTARTS)
        await measure.storm(made, found, STORM)
        footprint = await measure.watch_and_lease(made, made.folder)
    return found, footprint


def main(sizes: list[int]) -> int:
    """Measure, tell, write."""
    known = json.loads(RAW.read_text()) if RAW.exists() else {}
    for size in sizes:
        found, footprint = asyncio.run(measured(size))
        known[str(size)] = asdict(found) | {
            "footprint": footprint,
            "date": CLOCK.now().strftime("%Y-%m-%d %H:%M"),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "load": os.getloadavg()[0],
        }
        sys.stdout.write(
            f"{size} agents: last of all p50 {1000 * statistics.median(found.last):.0f} ms, p99 "
            f"{1000 * percentile(found.last, 0.99):.0f} ms; storm {1000 * found.staleness:.0f} ms, "
            f"{found.pushes:.1f} pushes/s; restart {max(found.restarts):.1f} s\n"
        )
        sys.stdout.flush()
        RAW.write_text(
            json.dumps(dict(sorted(known.items(), key=lambda i: int(i[0]))), indent=1) + "\n"
        )
        write(known)
    return 0


if __name__ == "__main__":
    with nothing_left():
        sys.exit(main([int(text) for text in sys.argv[1:]] or [10, 50, 100, 200]))
