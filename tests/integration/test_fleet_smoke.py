"""`python -m tests.fleet`, with few agents: every one follows, reports, and comes back."""

from time import monotonic

from tests.fleet.figures import Figures, restarts, stored_bytes, storm
from tests.fleet.fleet import fleet

AGENTS = 20
LARGEST_SHARE = 64 * 1024


async def test_agents_follow_storms_and_restart_together() -> None:
    figures = Figures(AGENTS)
    async with fleet(AGENTS) as made:
        await made.order("start")
        await made.until_reported(1)
        began = monotonic()
        revision, _ = await made.commit()
        assert len(await made.until_live(revision, began)) == AGENTS
        await storm(made, figures, 2)
        assert figures.pushes <= 10.5  # a compilation each 100 ms at most
        await restarts(made, figures, 1)
        assert 0 < await stored_bytes(made) < LARGEST_SHARE
