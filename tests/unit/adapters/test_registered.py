import asyncio
import json
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
import structlog

from mesh.adapters.clock import SystemClock
from mesh.adapters.embedded import EmbeddedStore
from mesh.adapters.registered import RegisteredDiscovery
from mesh.model.catalog import Endpoint, Health
from mesh.model.identity import ServiceName
from mesh.planning import keyspace
from mesh.planning.keyspace import ALIVE, RECORD
from mesh.planning.presence import SILENCE_SECONDS
from mesh.ports import Interest, Put, Transaction
from tests.support.manual_clock import ManualClock

API = ServiceName("default", "api")
ENDPOINT = Endpoint(id="h1", service=API, address="192.0.2.1", port=1)
KEY, LIFE = keyspace.instance(API, "h1", RECORD), keyspace.instance(API, "h1", ALIVE)
LONG = timedelta(minutes=1)
SHORT = timedelta(milliseconds=300)
TICK = timedelta(seconds=5)


@pytest.fixture
async def store(tmp_path):
    async with EmbeddedStore(tmp_path / "mesh.db", clock=SystemClock()) as store:
        yield store


@pytest.fixture
def clock():
    return ManualClock()


def record(address, port=1):
    rest = {"meta": {}, "tags": [], "datacenter": None, "is_healthy": True}
    return json.dumps({"address": address, "port": port, **rest}).encode()


@asynccontextmanager
async def watched(store, clock):
    async with (
        RegisteredDiscovery(store, clock=clock) as discovery,
        aclosing(discovery.watch(Interest(frozenset({API})))) as catalogs,
    ):
        yield discovery, catalogs


async def healths(catalogs):
    async with asyncio.timeout(10):
        catalog = await anext(catalogs)
    return [one.health for one in catalog.endpoints[API]]


async def until_stored(store, wanted):
    async with asyncio.timeout(10):
        async for watched in store.watch(keyspace.instances(API)):
            if wanted(watched.entries):
                return


async def test_a_registration_is_a_record_and_a_sign_of_life(store, clock):
    async with RegisteredDiscovery(store, clock=clock) as discovery:
        await discovery.register(ENDPOINT, ttl=LONG)
        assert set(await store.scan("")) == {KEY, LIFE}
        await discovery.deregister(ENDPOINT)
        assert await store.scan("") == {}


async def test_a_renewal_that_says_the_same_writes_nothing(store, clock):
    async with RegisteredDiscovery(store, clock=clock) as discovery:
        await discovery.register(ENDPOINT, ttl=LONG)
        before = await store.scan("")
        await discovery.register(ENDPOINT, ttl=LONG)
        assert await store.scan("") == before


async def test_a_renewal_heals_what_was_written_over(store, clock):
    async with RegisteredDiscovery(store, clock=clock) as discovery:
        await discovery.register(ENDPOINT, ttl=LONG)
        before = await store.scan("")
        await store.commit(Transaction(puts=(Put(KEY, b"{}"),)))
        await discovery.register(ENDPOINT, ttl=LONG)
        assert (await store.scan(""))[KEY].value == before[KEY].value
        await store.commit(Transaction(deletes=(LIFE,)))
        await discovery.register(ENDPOINT, ttl=LONG)
        assert (await store.scan(""))[LIFE].value == before[LIFE].value


async def test_a_lost_lease_is_replaced(store, clock):
    async with RegisteredDiscovery(store, clock=clock) as discovery:
        await discovery.register(ENDPOINT, ttl=SHORT)
        await until_stored(store, lambda entries: set(entries) == {KEY})
        await discovery.register(ENDPOINT, ttl=SHORT)
        assert set(await store.scan("")) == {KEY, LIFE}


async def test_another_ttl_takes_another_lease(store, clock):
    other = replace(ENDPOINT, id="h2")
    async with RegisteredDiscovery(store, clock=clock) as discovery:
        await discovery.register(ENDPOINT, ttl=SHORT)
        await discovery.register(other, ttl=SHORT)
        await discovery.register(ENDPOINT, ttl=LONG)
        other_life = keyspace.instance(API, "h2", ALIVE)
        await until_stored(store, lambda entries: other_life not in entries)
        assert LIFE in await store.scan("")


async def test_a_record_that_stays_silent_is_deleted_after_ten_minutes(store, clock):
    async with watched(store, clock) as (discovery, catalogs):
        assert await healths(catalogs) == []
        await discovery.register(ENDPOINT, ttl=SHORT)
        assert await healths(catalogs) == [Health.HEALTHY]
        assert await healths(catalogs) == [Health.DEGRADED]
        await clock.until_asleep()
        clock.advance(timedelta(seconds=SILENCE_SECONDS - 1))
        await clock.until_asleep()
        assert set(await store.scan("")) == {KEY}
        clock.advance(TICK)
        assert await healths(catalogs) == []
        await until_stored(store, lambda entries: entries == {})


async def test_an_instance_that_came_back_is_not_deleted(store, clock):
    async with watched(store, clock) as (discovery, catalogs):
        await healths(catalogs)
        await discovery.register(ENDPOINT, ttl=SHORT)
        assert await healths(catalogs) == [Health.HEALTHY]
        assert await healths(catalogs) == [Health.DEGRADED]
        await clock.until_asleep()
        await discovery.register(ENDPOINT, ttl=LONG)
        assert await healths(catalogs) == [Health.HEALTHY]
        clock.advance(timedelta(seconds=2 * SILENCE_SECONDS))
        await discovery.register(replace(ENDPOINT, port=2), ttl=LONG)
        assert await healths(catalogs) == [Health.HEALTHY]
        assert set(await store.scan("")) == {KEY, LIFE}


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xff",
        b"[]",
        b"null",
        b"{}",
        b'{"address": "x", "port": "y"}',
        # Envoy refuses a whole service's endpoints for one of these.
        record("h1.example"),
        record("fe80::1%eth0"),
        record("192.0.2.1", 0),
        record("192.0.2.1", 65536),
    ],
)
async def test_an_unreadable_record_is_passed_over(store, clock, value):
    await store.commit(Transaction(puts=(Put(KEY, value), Put(LIFE, b""))))
    with structlog.testing.capture_logs() as logs:
        async with watched(store, clock) as (discovery, catalogs):
            assert await healths(catalogs) == []
            await discovery.register(replace(ENDPOINT, id="h2"), ttl=LONG)
            assert await healths(catalogs) == [Health.HEALTHY]
    assert logs[0]["key"] == KEY


async def test_other_keys_are_passed_over(store, clock):
    stray = Put(keyspace.instances(API) + "stray", b"x")
    await store.commit(Transaction(puts=(stray, Put(LIFE, b""))))
    async with watched(store, clock) as (_, catalogs):
        assert await healths(catalogs) == []
