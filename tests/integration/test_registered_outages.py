"""Registered instances while the store is gone, and when it comes back as another."""

import asyncio
import shutil
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta

import pytest

from mesh.adapters.clock import SystemClock
from mesh.adapters.etcd import EtcdSettings, EtcdStore
from mesh.adapters.registered import RegisteredDiscovery
from mesh.errors import OutsideError
from mesh.model.catalog import Endpoint
from mesh.model.identity import ServiceName
from mesh.ports import Interest
from tests.support.servers import etcd

API = ServiceName("default", "api")
ENDPOINT = Endpoint(id="h1", service=API, address="192.0.2.1", port=1)
TTL = timedelta(minutes=1)


async def until(catalogs, wanted):
    seen = None
    try:
        async with asyncio.timeout(30):
            async for seen in catalogs:
                if wanted(seen):
                    return seen
    except TimeoutError:
        pytest.fail(f"the last catalog was {seen}")


async def test_a_store_that_comes_back_empty_empties_nothing_at_once(tmp_path):
    clock = SystemClock()
    with etcd(tmp_path) as server:
        settings = EtcdSettings(endpoints=(server.endpoint,), timeout=timedelta(seconds=1))
        async with (
            EtcdStore(settings, clock=clock) as store,
            RegisteredDiscovery(store, clock=clock) as discovery,
            aclosing(discovery.watch(Interest(frozenset({API})))) as catalogs,
        ):
            await discovery.register(ENDPOINT, ttl=TTL)
            full = await until(catalogs, lambda one: one.endpoints[API])
            server.kill()
            lost = await until(catalogs, lambda one: one.stale)
            assert lost.endpoints == full.endpoints
            with pytest.raises(OutsideError):
                await discovery.register(ENDPOINT, ttl=TTL)

            shutil.rmtree(tmp_path / "m0")
            server.start()
            await asyncio.to_thread(server.wait_ready)
            held = await until(catalogs, lambda one: one.stale and "vanished" in one.stale)
            assert held.endpoints == full.endpoints

            await discovery.register(replace(ENDPOINT, port=2), ttl=TTL)
            back = await until(catalogs, lambda one: one.stale is None)
            assert [one.port for one in back.endpoints[API]] == [2]
