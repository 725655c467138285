import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta

from mesh.adapters.registered import RegisteredDiscovery
from mesh.errors import Unavailable
from mesh.model.catalog import Catalog, Endpoint
from mesh.model.identity import ServiceName
from mesh.planning.presence import EMPTY_GRACE_SECONDS
from mesh.ports import Clock, Discovery, Interest
from mesh.sidecar.catalog import CatalogSource
from mesh.sidecar.late import LateDiscovery
from tests.support.manual_clock import ManualClock
from tests.support.revisions import CLOCK, Commits, once

API, STOCK, WEB = (ServiceName("default", name) for name in ("api", "stock", "web"))
TTL = timedelta(seconds=30)


def endpoint(service: ServiceName, id: str = "1") -> Endpoint:
    return Endpoint(id=id, service=service, address="127.0.0.1", port=1)


@contextlib.asynccontextmanager
async def following(
    commits: Commits, remembered: Catalog | None = None, clock: Clock = CLOCK
) -> AsyncIterator[tuple[CatalogSource, Discovery]]:
    async with RegisteredDiscovery(commits.store, clock=CLOCK) as discovery:
        source = CatalogSource(discovery, clock, remembered)
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
    source = CatalogSource(discovery, CLOCK, Catalog({API: (endpoint(API),)}))
    interest = Interest(frozenset({API, STOCK}))
    source.interest.set(interest)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(source.run()), tasks.create_task(discovery.hold())]
        source.recall()
        await once(source.newest, lambda c: c.stale == "nobody answers")
        for task in running:
            task.cancel()
    assert source.newest.value.endpoints == {API: (endpoint(API),)}
    assert not source.covers(interest)
    assert source.covers(Interest(frozenset({API})))


async def test_a_first_answer_that_is_empty_is_doubted_for_a_while(commits: Commits) -> None:
    clock = ManualClock()
    remembered = Catalog({API: (endpoint(API),), WEB: (endpoint(WEB),)}, frozenset({API, WEB}))
    async with following(commits, remembered, clock) as (source, discovery):
        await discovery.register(endpoint(WEB, "2"), ttl=TTL)
        source.interest.set(Interest(frozenset({API, WEB})))
        held = await once(source.newest, lambda c: c.endpoints.keys() == {API, WEB})
        assert held.endpoints == {API: (endpoint(API),), WEB: (endpoint(WEB, "2"),)}
        assert (
            held.stale
            == "all instances of default/api vanished at once: the last known are kept for now"
        )
        await clock.until_asleep()
        clock.advance(timedelta(seconds=EMPTY_GRACE_SECONDS))
        believed = await once(source.newest, lambda c: c.stale is None)
        assert believed.endpoints == {API: (), WEB: (endpoint(WEB, "2"),)}


async def test_what_is_back_is_believed_when_it_leaves_again(commits: Commits) -> None:
    remembered = Catalog({API: (endpoint(API),)})
    async with following(commits, remembered) as (source, discovery):
        source.interest.set(Interest(frozenset({API})))
        await once(source.newest, lambda c: c.stale is not None)
        await discovery.register(endpoint(API, "2"), ttl=TTL)
        await once(source.newest, lambda c: c.endpoints == {API: (endpoint(API, "2"),)})
        assert source.newest.value.stale is None
        await discovery.deregister(endpoint(API, "2"))
        await once(source.newest, lambda c: c.endpoints == {API: ()})


async def test_no_names_are_doubted_too(commits: Commits) -> None:
    async with following(commits, Catalog(names=frozenset({WEB}))) as (source, discovery):
        source.interest.set(Interest(names=True))
        await once(source.newest, lambda c: c.stale is not None)
        assert source.newest.value.names == {WEB}
        await discovery.register(endpoint(API), ttl=TTL)
        await once(source.newest, lambda c: c.names == {API})
        source.interest.set(Interest())
        await once(source.newest, lambda c: not c.names and c.stale is None)
