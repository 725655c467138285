import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from mesh.adapters.embedded import EmbeddedStore
from mesh.adapters.registered import RegisteredDiscovery
from mesh.errors import Unavailable
from mesh.model.identity import ServiceName
from mesh.ports import Discovery, Interest, Put, Store, Transaction
from mesh.sidecar.late import LateDiscovery, LateStore
from mesh.sidecar.waiting import closing
from tests.support.revisions import CLOCK, QUICK

API = ServiceName("default", "api")


class Opening:
    """Fails to make a store until it is allowed to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_open = False
        self.tries = 0

    def __call__(self) -> Store:
        self.tries += 1
        if not self.is_open:
            raise Unavailable("nobody answers")
        return EmbeddedStore(self.path, clock=CLOCK)


async def test_a_store_that_comes_late_was_out_of_reach_before(tmp_path: Path) -> None:
    opening = Opening(tmp_path / "mesh.db")
    store = LateStore(opening, QUICK, timedelta())
    async with asyncio.TaskGroup() as tasks:
        holding = tasks.create_task(store.hold())
        async with asyncio.timeout(10), closing(store.watch("a/")) as states:
            first = await anext(states)
            assert (first.entries, first.lost) == ({}, "nobody answers")
            with pytest.raises(Unavailable, match="nobody answers"):
                await store.fetch(["a/b"])
            opening.is_open = True
            assert (await anext(states)).lost is None
            await store.commit(Transaction(puts=(Put("a/b", b"1"),)))
            assert (await anext(states)).entries["a/b"].value == b"1"
            assert list(await store.scan("a/")) == ["a/b"]
        assert opening.tries > 1
        holding.cancel()
    with pytest.raises(Unavailable):
        await store.fetch(["a/b"])


async def test_a_discovery_that_comes_late_was_stale_before(tmp_path: Path) -> None:
    is_open = False

    def make() -> Discovery:
        if not is_open:
            raise Unavailable("no agent")
        return RegisteredDiscovery(store, clock=CLOCK)

    discovery = LateDiscovery(make, QUICK, timedelta())
    async with (
        EmbeddedStore(tmp_path / "mesh.db", clock=CLOCK) as store,
        asyncio.TaskGroup() as tasks,
    ):
        holding = tasks.create_task(discovery.hold())
        watch = discovery.watch(Interest(frozenset({API})))
        async with asyncio.timeout(10), closing(watch) as catalogs:
            assert (await anext(catalogs)).stale == "no agent"
            is_open = True
            assert (await anext(catalogs)).endpoints == {API: ()}
        holding.cancel()
