import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mesh.adapters.ads import AdsServer
from mesh.adapters.registered import RegisteredDiscovery
from mesh.errors import PortInUse
from mesh.latest import Latest
from mesh.model.catalog import Endpoint
from mesh.model.identity import SVID, Identity, ServiceName, TrustBundle
from mesh.model.placement import Placement
from mesh.model.policy import Address
from mesh.sidecar.catalog import CatalogSource
from mesh.sidecar.head import INTERVAL
from mesh.sidecar.policies import PolicySource
from mesh.sidecar.reconciler import Inputs, Reconciler
from tests.support.manual_clock import ManualClock
from tests.support.revisions import CLOCK, Commits, once

WEB = ServiceName("default", "web")
API = ServiceName("default", "api")
LEDGER = ServiceName("default", "ledger")
ACCESS = """
apiVersion: mesh/v1
kind: Service
metadata: {name: NAME}
spec: {protocol: PROTOCOL, port: 80}
---
apiVersion: mesh/v1
kind: AccessPolicy
metadata: {name: NAME}
spec:
  targetRefs: [{kind: Service, name: NAME}]
  rules: [{name: web, action: allow, from: [{service: web}]}]
---
"""
HTTP = ACCESS.replace("NAME", "api").replace("PROTOCOL", "http")
TCP = ACCESS.replace("NAME", "ledger").replace("PROTOCOL", "tcp")
OPEN = """
apiVersion: mesh/v1
kind: Mesh
metadata: {name: mesh}
spec: {access: {default: allow}}
"""

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
IDENTITY = SVID(Identity("mesh.local", WEB), b"chain", b"key", NOON, NOON + timedelta(hours=1))


@dataclass
class Reconciling:
    """A reconciler between a real store and discovery and an ADS server that nobody asks."""

    discovery: RegisteredDiscovery
    policies: PolicySource
    catalog: CatalogSource
    folder: Path
    clock: ManualClock = field(default_factory=ManualClock)
    addresses: dict[ServiceName, Address] = field(default_factory=dict)

    def __post_init__(self) -> None:
        svid: Latest[SVID | None] = Latest(IDENTITY)
        bundle: Latest[TrustBundle | None] = Latest(TrustBundle("mesh.local", b"roots"))
        self.inputs = Inputs(
            scope=self.policies.newest, catalog=self.catalog, svid=svid, bundle=bundle
        )
        placement = Placement(id="one", service=WEB, outbound=Address("127.0.0.1", 1))
        server = AdsServer(self.folder / "ads.sock")
        self.reconciler = Reconciler(self.inputs, server, self.clock, placement, self._upstreams)

    def _upstreams(self, services: tuple[ServiceName, ...]) -> Mapping[ServiceName, Address]:
        if not self.addresses.keys() >= set(services):
            raise PortInUse("no port is left")
        return {service: self.addresses[service] for service in services}


@contextlib.asynccontextmanager
async def reconciling(commits: Commits, folder: Path) -> AsyncIterator[Reconciling]:
    async with RegisteredDiscovery(commits.store, clock=CLOCK) as discovery:
        policies = PolicySource(commits.store, WEB, CLOCK)
        made = Reconciling(discovery, policies, CatalogSource(discovery, CLOCK), folder)
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(work())
                for work in (made.policies.run, made.catalog.run, made.reconciler.run)
            ]
            yield made
            for task in running:
                task.cancel()


async def test_the_first_change_is_compiled_at_once_and_the_newest_after_the_interval(
    commits: Commits, tmp_path: Path
) -> None:
    async with reconciling(commits, tmp_path) as made:
        compiled = made.reconciler.compiled
        await once(compiled, lambda c: c.generation == 1 and c.revision == 0)
        for port in (80, 81, 82):
            await commits(HTTP.replace("port: 80", f"port: {port}"))
        await once(made.policies.newest, lambda s: s is not None and s.revision == 3)
        assert compiled.value.generation == 1  # the clock stands still
        made.clock.advance(INTERVAL)
        await once(compiled, lambda c: c.revision == 3)
        assert compiled.value.generation == 2


@pytest.mark.parametrize("documents", [HTTP, OPEN], ids=["declared", "known by its name alone"])
async def test_a_service_that_comes_into_scope_comes_with_its_endpoints(
    documents: str, commits: Commits, tmp_path: Path
) -> None:
    async with reconciling(commits, tmp_path) as made:
        endpoint = Endpoint(id="a", service=API, address="127.0.0.1", port=2)
        await made.discovery.register(endpoint, ttl=timedelta(seconds=30))
        await once(made.reconciler.compiled, lambda c: c.generation == 1)
        await commits(documents)
        await once(made.policies.newest, lambda s: s is not None and s.revision == 1)
        made.clock.advance(INTERVAL)
        await once(made.reconciler.compiled, lambda c: c.revision == 1)
        assert made.catalog.newest.value.endpoints == {API: (endpoint,)}


async def test_what_cannot_be_compiled_is_told_and_the_last_stays(
    commits: Commits, tmp_path: Path
) -> None:
    async with reconciling(commits, tmp_path) as made:
        compiled = made.reconciler.compiled
        await once(compiled, lambda c: c.generation == 1)
        await commits(TCP)
        await once(made.policies.newest, lambda s: s is not None and s.revision == 1)
        made.clock.advance(INTERVAL)
        await once(compiled, lambda c: c.failure == "no port is left")
        assert (compiled.value.revision, compiled.value.generation) == (0, 1)
        made.addresses[LEDGER] = Address("127.0.0.1", 3)
        await commits(TCP.replace("port: 80", "port: 81"))
        await once(made.policies.newest, lambda s: s is not None and s.revision == 2)
        made.clock.advance(INTERVAL)
        await once(compiled, lambda c: c.revision == 2)
        assert compiled.value.failure is None
        assert compiled.value.upstreams == made.addresses
