"""What every `Discovery` promises, on each adapter: the store's own (over SQLite and a real etcd)
and a real Consul.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from itertools import count

import pytest

from mesh.adapters.clock import SystemClock
from mesh.adapters.consul import ConsulDiscovery, ConsulSettings
from mesh.adapters.embedded import EmbeddedStore
from mesh.adapters.etcd import EtcdSettings, EtcdStore
from mesh.adapters.registered import RegisteredDiscovery
from mesh.model.catalog import Catalog, Endpoint, Health
from mesh.model.identity import ServiceName
from mesh.ports import Discovery, Interest, Store
from tests.support.servers import consul, etcd

LONG = timedelta(minutes=1)
SHORT = timedelta(seconds=1)  # etcd makes two of it
PATIENCE_SECONDS = 20
_NUMBERS = count(1)


@dataclass(frozen=True)
class Registry:
    """A registry that several processes reach: `connect` makes one more of them."""

    connect: Callable[[], AbstractAsyncContextManager[Discovery]]


@pytest.fixture(scope="module")
def consul_server(tmp_path_factory):
    with consul(tmp_path_factory.mktemp("consul")) as server:
        yield server


@pytest.fixture(scope="module")
def etcd_server(tmp_path_factory):
    with etcd(tmp_path_factory.mktemp("etcd")) as server:
        yield server


@pytest.fixture(params=["embedded", "etcd", "consul"])
def registry(request, tmp_path):
    clock = SystemClock()
    if request.param == "consul":
        server = request.getfixturevalue("consul_server")
        settings = ConsulSettings(address=server.endpoint)
        return Registry(lambda: ConsulDiscovery(settings, clock=clock))

    made: Callable[[], Store] = partial(EmbeddedStore, tmp_path / "mesh.db", clock=clock)
    if request.param == "etcd":
        server = request.getfixturevalue("etcd_server")
        # All the processes of a test see the same keys, and no other test's.
        prefix = f"test-{next(_NUMBERS)}"
        etcd_settings = EtcdSettings(endpoints=(server.endpoint,), prefix=prefix)
        made = partial(EtcdStore, etcd_settings, clock=clock)

    @asynccontextmanager
    async def connect() -> AsyncIterator[Discovery]:
        async with made() as store, RegisteredDiscovery(store, clock=clock) as discovery:
            yield discovery

    return Registry(connect)


@pytest.fixture
def service():
    """A name that no other test uses: they share one Consul."""
    return ServiceName("default", f"api-{next(_NUMBERS)}")


def endpoint(service: ServiceName, number: int = 1, **changes: object) -> Endpoint:
    made = Endpoint(
        id=f"host-{service.namespace}-{service.name}-{number}",
        service=service,
        address="192.0.2.7",
        port=15000 + number,
        meta={"version": "v1"},
        tags=frozenset({"blue", "fast"}),
    )
    return replace(made, **changes)


def watching(discovery, *services, names=False):
    return aclosing(discovery.watch(Interest(frozenset(services), names)))


async def until(catalogs, wanted: Callable[[Catalog], bool]) -> Catalog:
    """The first catalog that is as wanted; fails with what came instead."""
    seen = None
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for seen in catalogs:
                if wanted(seen):
                    return seen
    except TimeoutError:
        pytest.fail(f"the last catalog was {seen}")
    pytest.fail(f"the watch ended after {seen}")


def shows(service, **health: Health):
    """Exactly these instances (`i1=HEALTHY`)."""

    def wanted(catalog: Catalog) -> bool:
        found = {f"i{one.id.rpartition('-')[2]}": one.health for one in catalog.endpoints[service]}
        return found == health and catalog.stale is None

    return wanted


async def test_an_unknown_service_has_no_endpoints(registry, service):
    async with registry.connect() as discovery, watching(discovery, service) as catalogs:
        assert await until(catalogs, lambda _: True) == Catalog({service: ()})


async def test_no_interest_is_an_empty_catalog(registry):
    async with registry.connect() as discovery, watching(discovery) as catalogs:
        assert await until(catalogs, lambda _: True) == Catalog()


async def test_an_instance_is_found_as_it_was_registered(registry, service):
    async with registry.connect() as discovery, watching(discovery, service) as catalogs:
        registered = endpoint(service)
        await discovery.register(registered, ttl=LONG)
        catalog = await until(catalogs, shows(service, i1=Health.HEALTHY))
        (found,) = catalog.endpoints[service]
        assert replace(found, datacenter=None) == registered


async def test_another_process_finds_what_was_there_before(registry, service):
    async with registry.connect() as first, registry.connect() as second:
        await first.register(endpoint(service), ttl=LONG)
        async with watching(second, service) as catalogs:
            await until(catalogs, shows(service, i1=Health.HEALTHY))


async def test_instances_are_sorted_by_id(registry, service):
    async with registry.connect() as discovery, watching(discovery, service) as catalogs:
        for number in (3, 1, 2):
            await discovery.register(endpoint(service, number), ttl=LONG)
        healthy = Health.HEALTHY
        catalog = await until(catalogs, shows(service, i1=healthy, i2=healthy, i3=healthy))
        assert [one.port for one in catalog.endpoints[service]] == [15001, 15002, 15003]


async def test_a_renewal_that_says_the_same_is_no_news(registry, service):
    async with registry.connect() as discovery, watching(discovery, service) as catalogs:
        await discovery.register(endpoint(service), ttl=LONG)
        first = await until(catalogs, shows(service, i1=Health.HEALTHY))
        for _ in range(3):
            await discovery.register(endpoint(service), ttl=LONG)
        await discovery.register(endpoint(service, 2), ttl=LONG)
        async with asyncio.timeout(PATIENCE_SECONDS):
            following = await anext(catalogs)
        assert following != first
        assert len(following.endpoints[service]) == 2


async def test_changed_facts_are_news(registry, service):
    async with registry.connect() as discovery, watching(discovery, service) as catalogs:
        await discovery.register(endpoint(service), ttl=LONG)
        await until(catalogs, shows(service, i1=Health.HEALTHY))
        changed = endpoint(service, meta={"version": "v2"}, tags=frozenset(), port=9)
        await discovery.register(changed, ttl=LONG)
        catalog = await until(catalogs, lambda one: one.endpoints[service][0].port == 9)
        assert replace(catalog.endpoints[service][0], datacenter=None) == changed


async def test_an_unhealthy_instance_is_listed_as_such_until_it_recovers(registry, service):
    async with registry.connect() as discovery, watching(discovery, service) as catalogs:
        sick = endpoint(service, health=Health.UNHEALTHY)
        await discovery.register(sick, ttl=LONG)
        await until(catalogs, shows(service, i1=Health.UNHEALTHY))
        await discovery.register(endpoint(service), ttl=LONG)
        await until(catalogs, shows(service, i1=Health.HEALTHY))
        await discovery.register(sick, ttl=LONG)
        await until(catalogs, shows(service, i1=Health.UNHEALTHY))
        await discovery.register(sick, ttl=LONG)
        await discovery.register(endpoint(service), ttl=LONG)
        await until(catalogs, shows(service, i1=Health.HEALTHY))


async def test_a_silent_instance_is_degraded_until_it_speaks(registry, service):
    async with registry.connect() as discovery, watching(discovery, service) as catalogs:
        await discovery.register(endpoint(service), ttl=SHORT)
        await until(catalogs, shows(service, i1=Health.HEALTHY))
        await until(catalogs, shows(service, i1=Health.DEGRADED))
        await discovery.register(endpoint(service), ttl=SHORT)
        await until(catalogs, shows(service, i1=Health.HEALTHY))


async def test_an_instance_that_comes_back_unhealthy_is_not_used(registry, service):
    async with registry.connect() as discovery, watching(discovery, service) as catalogs:
        await discovery.register(endpoint(service), ttl=SHORT)
        await until(catalogs, shows(service, i1=Health.DEGRADED))
        await discovery.register(endpoint(service, health=Health.UNHEALTHY), ttl=LONG)
        await until(catalogs, shows(service, i1=Health.UNHEALTHY))


async def test_a_silent_instance_that_was_unhealthy_is_not_used(registry, service):
    async with registry.connect() as discovery, watching(discovery, service) as catalogs:
        await discovery.register(endpoint(service, health=Health.UNHEALTHY), ttl=SHORT)
        await discovery.register(endpoint(service, 2), ttl=SHORT)
        # The second one's silence tells that the first one's time is over too.
        await until(catalogs, shows(service, i1=Health.UNHEALTHY, i2=Health.DEGRADED))


async def test_a_deregistered_instance_is_gone_at_once(registry, service):
    async with registry.connect() as discovery, watching(discovery, service) as catalogs:
        for number in (1, 2):
            await discovery.register(endpoint(service, number), ttl=LONG)
        await until(catalogs, shows(service, i1=Health.HEALTHY, i2=Health.HEALTHY))
        await discovery.deregister(endpoint(service, 1))
        await until(catalogs, shows(service, i2=Health.HEALTHY))


async def test_the_last_instance_may_leave(registry, service):
    async with registry.connect() as discovery, watching(discovery, service) as catalogs:
        await discovery.register(endpoint(service), ttl=LONG)
        await until(catalogs, shows(service, i1=Health.HEALTHY))
        await discovery.deregister(endpoint(service))
        await until(catalogs, shows(service))


async def test_a_silent_instance_may_be_deregistered(registry, service):
    async with registry.connect() as discovery, watching(discovery, service) as catalogs:
        await discovery.register(endpoint(service), ttl=SHORT)
        await until(catalogs, shows(service, i1=Health.DEGRADED))
        await discovery.deregister(endpoint(service))
        await until(catalogs, shows(service))


async def test_unknown_instances_may_be_deregistered(registry, service):
    async with registry.connect() as discovery:
        await discovery.deregister(endpoint(service))
        await discovery.deregister(endpoint(service))


async def test_a_lost_registration_is_healed_by_the_next_renewal(registry, service):
    async with (
        registry.connect() as first,
        registry.connect() as second,
        watching(second, service) as catalogs,
    ):
        await first.register(endpoint(service), ttl=LONG)
        await until(catalogs, shows(service, i1=Health.HEALTHY))
        await second.deregister(endpoint(service))
        await until(catalogs, shows(service))
        await first.register(endpoint(service), ttl=LONG)
        await until(catalogs, shows(service, i1=Health.HEALTHY))


async def test_a_restarted_process_takes_its_registration_over(registry, service):
    async with registry.connect() as second, watching(second, service) as catalogs:
        async with registry.connect() as first:
            await first.register(endpoint(service), ttl=SHORT)
            await first.register(endpoint(service, 2), ttl=SHORT)
        await second.register(endpoint(service), ttl=LONG)
        # The silence of what nobody took over tells that the first process's time is over.
        await until(catalogs, shows(service, i1=Health.HEALTHY, i2=Health.DEGRADED))


async def test_one_name_in_two_namespaces_is_two_services(registry, service):
    other = service._replace(namespace="shop")
    async with registry.connect() as discovery, watching(discovery, service, other) as catalogs:
        await discovery.register(endpoint(service), ttl=LONG)
        await discovery.register(endpoint(other, 2), ttl=LONG)
        await until(
            catalogs,
            lambda one: (
                shows(service, i1=Health.HEALTHY)(one) and shows(other, i2=Health.HEALTHY)(one)
            ),
        )
        await discovery.deregister(endpoint(service))
        await until(
            catalogs, lambda one: shows(service)(one) and shows(other, i2=Health.HEALTHY)(one)
        )


async def test_a_catalog_has_what_was_asked_for(registry, service):
    other = service._replace(name=service.name + "-other")
    async with registry.connect() as discovery:
        await discovery.register(endpoint(other), ttl=LONG)
        await discovery.register(endpoint(service), ttl=LONG)
        async with watching(discovery, service) as catalogs:
            catalog = await until(catalogs, shows(service, i1=Health.HEALTHY))
            assert set(catalog.endpoints) == {service}
            assert catalog.names == frozenset()


async def test_all_names_are_known_to_those_who_ask(registry, service):
    other = ServiceName("shop", service.name)
    async with (
        registry.connect() as discovery,
        watching(discovery, service, names=True) as catalogs,
    ):
        await discovery.register(endpoint(service), ttl=LONG)
        await discovery.register(endpoint(other), ttl=LONG)
        catalog = await until(catalogs, lambda one: {service, other} <= one.names)
        assert set(catalog.endpoints) == {service}
        await discovery.deregister(endpoint(other))
        await until(catalogs, lambda one: service in one.names and other not in one.names)


async def test_watches_end_one_by_one_and_with_the_discovery(registry, service):
    async with registry.connect() as discovery:
        lasting = discovery.watch(Interest(frozenset({service})))
        async with watching(discovery, service) as catalogs:
            await until(catalogs, shows(service))
            await anext(lasting)
        await discovery.register(endpoint(service), ttl=LONG)
        await until(lasting, shows(service, i1=Health.HEALTHY))
        await discovery.deregister(endpoint(service))
    await lasting.aclose()


async def test_an_error_inside_comes_out_as_it_is(registry, service):
    async def fail() -> None:
        async with registry.connect() as discovery, watching(discovery, service) as catalogs:
            await until(catalogs, shows(service))
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
