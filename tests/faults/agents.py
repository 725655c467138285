"""Two hundred agents restarted at once, as a row of the table (B14); `make fleet` says more."""

from tests.faults.bed import Bed
from tests.faults.catalogue import fault
from tests.fleet.figures import AT_FIRST, Figures, restarts
from tests.fleet.fleet import fleet

AGENTS = 200
TIMES = 3


@fault("agents-restarted", f"{AGENTS} agents restarted at once (beside the mesh under load)")
async def agents_restarted(bed: Bed) -> str:
    figures = Figures(AGENTS)
    async with fleet(AGENTS) as made:
        await made.order("start", at_once=AT_FIRST)
        await made.until_reported(1)
        bed.fault()
        await restarts(made, figures, TIMES)
    bed.mended()
    times = ", ".join(f"{seconds:.1f} s" for seconds in sorted(figures.restarts))
    return f"all at the newest revision, reported, without complaint: {times}"
