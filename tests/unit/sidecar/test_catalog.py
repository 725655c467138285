import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta

from mesh.adapters.registered import RegisteredDiscovery
from mesh.errors import Unavailable
from mesh.model.catalog import Catalog, Endpoint
from mesh.model.identity import ServiceName
from mesh.ports import Discovery, Interest
from mesh.sidecar.catalog import CatalogSource
from mesh.sidecar.late import LateDiscovery
from tests.support.revisions import CLOCK, Commits, once

API, STOCK, WEB = (ServiceName("default", name) for name in ("api", "stock", "web"))
TTL = timedelta(seconds=30)


def endpoint(service: ServiceName, id: str = "1") -> Endpoint:
    return Endpoint(id=id, service=service, address="127.0.0.1", port=1)


@contextlib.asynccontextmanager
async def following(commits: Commits) -> AsyncIterator[tuple[CatalogSource, Discovery]]:
    async with RegisteredDiscovery(commits.store, clock=CLOCK) as discovery:
        source = CatalogSource(discovery, CLOCK)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(source.run())
            yield source, discovery
            running.cancel()


async def test_the_interest_grows_and_shrinks(commits: Commits) -> None:
    async with following(commits) as (source, discovery):
        await discovery.register(endpoint(API), ttl=TTL)
        await discovery.register(endpoint(STOCK), ttl=TTL)
        source.interest.set(Interest(frozenset({API})))
        await once(source.newest, lambda c: c.endpoints == {API: (endpoint(API),)})
        source.interest.set(Interest(frozenset({API, STOCK})))
        await once(source.newest, lambda c: len(c.endpoints.get(STOCK, ())) == 1)
        assert source.newest.value.endpoints[API] == (endpoint(API),)
        source.interest.set(Interest(frozenset({STOCK})))
        await once(source.newest, lambda c: c.endpoints.keys() == {STOCK})
        await discovery.deregister(endpoint(STOCK))
        await once(source.newest, lambda c: c.endpoints == {STOCK: ()})


async def test_names_are_known_where_they_are_wanted(commits: Commits) -> None:
    async with following(commits) as (source, discovery):
        await discovery.register(endpoint(WEB), ttl=TTL)
        source.interest.set(Interest(frozenset({API})))
        await once(source.newest, lambda c: API in c.endpoints)
        assert source.newest.value.names == frozenset()
        wanted = Interest(frozenset({API}), names=True)
        assert not source.covers(wanted)
        source.interest.set(wanted)
        await once(source.newest, lambda c: c.names == {WEB})
        assert source.covers(wanted)


async def test_what_was_remembered_holds_until_discovery_answers(commits: Commits) -> None:
    def unreachable() -> Discovery:
        raise Unavailable("nobody answers")

    discovery = LateDiscovery(unreachable, CLOCK, timedelta())
    source = CatalogSource(discovery, CLOCK)
    interest = Interest(frozenset({API, STOCK}))
    source.interest.set(interest)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(source.run()), tasks.create_task(discovery.hold())]
        source.recall(Catalog({API: (endpoint(API),)}))
        await once(source.newest, lambda c: c.stale == "nobody answers")
        for task in running:
            task.cancel()
    assert source.newest.value.endpoints == {API: (endpoint(API),)}
    assert not source.covers(interest)
    assert source.covers(Interest(frozenset({API})))
