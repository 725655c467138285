import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import structlog.testing

from mesh.adapters.registered import RegisteredDiscovery
from mesh.errors import Denied
from mesh.model.catalog import Catalog, Endpoint, Health
from mesh.model.identity import ServiceName
from mesh.model.policy import Address
from mesh.ports import Discovery, Interest
from mesh.sidecar.registration import Registration
from tests.support.revisions import CLOCK, QUICK, Commits

API = ServiceName("default", "api")
ENDPOINT = Endpoint(id="one", service=API, address="127.0.0.1", port=15006)


async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def health(discovery: Discovery, expected: list[Health]) -> None:
    """Return when the service's instances are as expected."""
    async with asyncio.timeout(10):
        async for catalog in discovery.watch(Interest(frozenset({API}))):
            if healths(catalog) == expected:
                return


def nobody() -> None:
    """Nobody asks to be told."""


def healths(catalog: Catalog) -> list[Health]:
    return [endpoint.health for endpoint in catalog.endpoints[API]]


@contextlib.asynccontextmanager
async def app(port: int = 0) -> AsyncIterator[Address]:
    async with await asyncio.start_server(hang_up, "127.0.0.1", port) as server:
        yield Address("127.0.0.1", server.sockets[0].getsockname()[1])


async def test_listed_while_envoy_and_the_application_are_there(commits: Commits) -> None:
    is_ready = False

    async def is_serving() -> bool:
        return is_ready

    async with RegisteredDiscovery(commits.store, clock=CLOCK) as discovery, app() as address:
        registration = Registration(discovery, QUICK, ENDPOINT, address, is_serving, changed=nobody)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(registration.run())
            await health(discovery, [])
            assert not registration.tried.is_set()
            is_ready = True
            await health(discovery, [Health.HEALTHY])
            is_ready = False
            await health(discovery, [Health.UNHEALTHY])
            is_ready = True
            await health(discovery, [Health.HEALTHY])
            assert registration.is_registered
            assert await registration.withdraw()
            assert not await registration.withdraw()
            await health(discovery, [])
            running.cancel()


class Told(RegisteredDiscovery):
    """A discovery that remembers what it was told."""

    healths: tuple[Health, ...] = ()

    async def register(self, endpoint: Endpoint, *, ttl: timedelta) -> None:
        await super().register(endpoint, ttl=ttl)
        self.healths = (*self.healths, endpoint.health)


@pytest.mark.parametrize(
    ("slow", "expected"), [(2, {Health.HEALTHY}), (3, {Health.HEALTHY, Health.UNHEALTHY})]
)
async def test_an_envoy_that_is_slow_for_a_moment_stays_in_use(
    commits: Commits, slow: int, expected: set[Health]
) -> None:
    looks = iter((True, *(False,) * slow, True))
    is_over = asyncio.Event()

    async def is_serving() -> bool:
        if (answer := next(looks, None)) is None:
            is_over.set()
        return answer is not False

    async with Told(commits.store, clock=CLOCK) as discovery, app() as address:
        registration = Registration(discovery, QUICK, ENDPOINT, address, is_serving, changed=nobody)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(registration.run())
            await is_over.wait()
            running.cancel()
        assert set(discovery.healths) == expected


async def test_an_application_that_goes_away_takes_no_requests(commits: Commits) -> None:
    told: list[None] = []

    async def is_serving() -> bool:
        return True

    discovery = RegisteredDiscovery(commits.store, clock=CLOCK)
    async with discovery, asyncio.TaskGroup() as tasks:
        async with app() as address:
            registration = Registration(
                discovery, QUICK, ENDPOINT, address, is_serving, changed=lambda: told.append(None)
            )
            running = tasks.create_task(registration.run())
            await health(discovery, [Health.HEALTHY])
        await health(discovery, [Health.UNHEALTHY])
        assert (registration.is_app_accepting, len(told)) == (False, 1)
        async with app(address.port):
            await health(discovery, [Health.HEALTHY])
        assert (registration.is_app_accepting, len(told)) == (True, 2)
        running.cancel()


class Guarded(RegisteredDiscovery):
    """A discovery that refuses."""

    async def register(self, endpoint: Endpoint, *, ttl: timedelta) -> None:
        raise Denied("refused to register", hint="check the token")


async def test_what_to_do_about_a_refused_registration_is_told(commits: Commits) -> None:
    async def is_serving() -> bool:
        return True

    async with Guarded(commits.store, clock=CLOCK) as discovery, app() as address:
        registration = Registration(discovery, QUICK, ENDPOINT, address, is_serving, changed=nobody)
        with structlog.testing.capture_logs() as logged:
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(registration.run())
                await registration.tried.wait()
                running.cancel()
        assert not registration.is_registered
    assert [(line["reason"], line["hint"]) for line in logged] == [
        ("refused to register", "check the token")
    ]
