"""What a sidecar answers to a scrape, with and without its Envoy."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

import pytest

from mesh.errors import Unavailable
from mesh.latest import Latest
from mesh.metrics.limit import MAX_SERIES
from mesh.metrics.statistics import Statistics
from mesh.model.identity import ServiceName
from mesh.model.placement import Placement
from mesh.model.policy import Address
from mesh.ports import Acknowledged
from mesh.sidecar.catalog import CatalogSource
from mesh.sidecar.certificates import CertificateKeeper
from mesh.sidecar.late import LateDiscovery, LateStore
from mesh.sidecar.policies import PolicySource
from mesh.sidecar.ports import SidecarPorts
from mesh.sidecar.reconciler import Compiled
from mesh.sidecar.standing import Standing
from mesh.sidecar.telemetry import Observed, Telemetry
from tests.support.manual_clock import ManualClock

API = ServiceName("default", "api")
HERE = Address("127.0.0.1", 9102)


class Envoy:
    """As much of a data plane as a scrape sees."""

    restarts = 2

    def __init__(self) -> None:
        self.counted: Statistics | None = Statistics({"cluster.app.upstream_rq_200": 3})

    async def statistics(self) -> Statistics:
        if self.counted is None:
            raise Unavailable("envoy does not answer")
        return self.counted


class Endpoint:
    """An endpoint without a socket."""

    def __init__(
        self,
        address: Address,
        collect: Callable[[], Awaitable[str]],
        trouble: Callable[[], str | None],
    ) -> None:
        self.address, self.collect, self.trouble = address, collect, trouble
        self.is_open = False

    async def open(self) -> None:
        self.is_open = True

    async def close(self) -> None:
        self.is_open = False


class Scene:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.envoy = Envoy()
        self.troubles: list[str] = []
        self.standing = Latest(Standing(revision=6, seen=7, is_serving=True))
        self.endpoints: list[Endpoint] = []
        store = LateStore(_unreachable, self.clock)
        policies = PolicySource(store, API, self.clock)
        self.observed = Observed(
            placement=Placement(id="h1-default-api-1", service=API, outbound=HERE),
            data_plane=self.envoy,  # type: ignore[arg-type]
            policies=policies,
            catalog=CatalogSource(LateDiscovery(_unreachable, self.clock), self.clock),
            certificates=CertificateKeeper(None, self.clock, API, policies.newest),  # type: ignore[arg-type]
            compiled=Latest(Compiled()),
            standing=self.standing,
            acknowledged=Latest(Acknowledged(nacks=4)),
            troubles=lambda: self.troubles,
        )
        ports = SidecarPorts(
            clock=self.clock,
            store=_unreachable,
            discovery=_unreachable,
            issuer=_unreachable,
            configuration_server=_unreachable,
            data_plane=_unreachable,
            scrape=self._scrape,
        )
        self.telemetry = Telemetry(self.observed, ports, HERE)
        self.silent = Telemetry(self.observed, ports, None)

    def _scrape(
        self,
        address: Address,
        collect: Callable[[], Awaitable[str]],
        trouble: Callable[[], str | None],
    ) -> Endpoint:
        self.endpoints.append(Endpoint(address, collect, trouble))
        return self.endpoints[-1]

    async def lines(self) -> list[str]:
        return (await self.endpoints[0].collect()).splitlines()


def _unreachable(*_: object) -> object:
    raise Unavailable("nothing is there")


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    found = Scene()
    async with found.telemetry:
        yield found


async def test_a_scrape_has_the_agents_health_and_envoys_traffic(scene: Scene) -> None:
    lines = await scene.lines()
    for line in (
        "mesh_applied_revision 6",
        "mesh_compiled_revision 7",
        "mesh_store_up 0",
        "mesh_nacks_total 4",
        "mesh_envoy_up 1",
        "mesh_envoy_restarts_total 2",
        'mesh_requests_total{code="200",destination="default/api",direction="inbound"} 3',
    ):
        assert line in lines


async def test_an_envoy_that_does_not_answer_is_told(scene: Scene) -> None:
    scene.envoy.counted = None
    lines = await scene.lines()
    assert "mesh_envoy_up 0" in lines
    assert not [line for line in lines if line.startswith("mesh_requests_total")]


async def test_it_listens_within_its_block_and_only_if_asked_to(scene: Scene) -> None:
    assert (scene.endpoints[0].is_open, scene.telemetry.address) == (True, HERE)
    async with scene.silent:
        assert scene.silent.address is None
    await scene.telemetry.__aexit__(None, None, None)
    assert [endpoint.is_open for endpoint in scene.endpoints] == [False]


async def test_health_is_whether_it_serves_not_how_new_its_news_are(scene: Scene) -> None:
    trouble = scene.endpoints[0].trouble
    scene.troubles.append("the store is out of reach")
    assert trouble() is None
    scene.standing.set(Standing())
    assert trouble() == "the sidecar does not serve"


async def test_what_is_over_the_limit_is_left_out_and_counted(scene: Scene) -> None:
    scene.envoy.counted = Statistics(
        {f"cluster.service/a/s{n}.upstream_rq_200": 1 for n in range(MAX_SERIES + 7)}
    )
    assert "mesh_series_dropped_total 7" in await scene.lines()
    lines = await scene.lines()
    assert "mesh_series_dropped_total 14" in lines
    assert sum(line.startswith("mesh_backend_requests_total") for line in lines) == MAX_SERIES


async def test_staleness_is_counted_from_its_first_moment(scene: Scene) -> None:
    scene.troubles.append("the store is out of reach")
    watching = asyncio.get_running_loop().create_task(scene.telemetry.run())
    try:
        await scene.clock.until_asleep()
        scene.clock.advance(timedelta(seconds=90))
        assert "mesh_stale_seconds 90" in await scene.lines()
        scene.troubles.clear()
        scene.clock.advance(timedelta(seconds=1))
        for _ in range(5):  # turns of the loop: the look comes after the clock has moved
            await scene.clock.sleep(timedelta())
        assert "mesh_stale_seconds 0" in await scene.lines()
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
