"""One leads: by a key under a lease, whose version fences what is committed."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from mesh.adapters.embedded import EmbeddedStore
from mesh.errors import LeaseLost
from mesh.sync.leadership import RENEWAL, TTL, Leadership
from tests.support.manual_clock import ManualClock


async def test_the_first_leads_until_it_gives_the_lead_back(tmp_path: Path):
    clock = ManualClock()
    async with EmbeddedStore(tmp_path / "mesh.db", clock=clock) as store:
        ann = Leadership(store, clock, "main", "ann")
        bob = Leadership(store, clock, "main", "bob")
        other = Leadership(store, clock, "other", "bob")
        assert await ann.acquire()
        assert not await bob.acquire()
        assert await other.acquire()
        await bob.release()  # it has nothing to give back
        assert not await bob.acquire()
        await ann.release()
        assert await bob.acquire()
        assert bob.fence.keys() == ann.fence.keys()
        assert bob.fence != ann.fence


async def test_who_is_silent_loses_the_lead_and_learns_of_it(tmp_path: Path):
    clock = ManualClock()
    async with EmbeddedStore(tmp_path / "mesh.db", clock=clock) as store:
        ann = Leadership(store, clock, "main", "ann")
        bob = Leadership(store, clock, "main", "bob")
        assert await ann.acquire()
        clock.advance(TTL + timedelta(seconds=1))  # frozen
        assert await bob.acquire()
        async with asyncio.TaskGroup() as tasks:
            keeping = tasks.create_task(_lost(ann))
            await clock.until_asleep()
            clock.advance(RENEWAL)
            await keeping
        await ann.release()
        assert not await Leadership(store, clock, "main", "eve").acquire()


async def _lost(leadership: Leadership) -> None:
    with pytest.raises(LeaseLost):
        await leadership.keep()
