"""What this sidecar tells Prometheus: its own health, and what its Envoy counts.

Counters of traffic live in Envoy and outlive the agent; the agent's own start at zero with it.
"""

import contextlib
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from types import TracebackType
from typing import Final, Self

from mesh.errors import Unavailable
from mesh.latest import Latest
from mesh.metrics.exposition import text
from mesh.metrics.family import Family
from mesh.metrics.health import AgentHealth, build_info, dropped_series, health
from mesh.metrics.limit import bounded
from mesh.metrics.statistics import Statistics, traffic
from mesh.model.placement import Placement
from mesh.model.policy import Address
from mesh.ports import Acknowledged, DataPlane
from mesh.sidecar.catalog import CatalogSource
from mesh.sidecar.certificates import CertificateKeeper
from mesh.sidecar.policies import PolicySource
from mesh.sidecar.ports import Scraped, SidecarPorts
from mesh.sidecar.reconciler import Compiled
from mesh.sidecar.standing import Standing

_LOOK: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """The parts of a sidecar that say how it is; `troubles` are why it runs on old news."""

    placement: Placement
    data_plane: DataPlane
    policies: PolicySource
    catalog: CatalogSource
    certificates: CertificateKeeper
    compiled: Latest[Compiled]
    standing: Latest[Standing]
    acknowledged: Latest[Acknowledged]
    troubles: Callable[[], list[str]]


class Telemetry:
    """The endpoint at `address`, if there is to be one. A context manager: listens within."""

    def __init__(self, observed: Observed, ports: SidecarPorts, address: Address | None) -> None:
        self._observed = observed
        self._clock = ports.clock
        self._endpoint: Scraped | None = None
        if address is not None and ports.scrape is not None:
            self._endpoint = ports.scrape(address, self.collect, self._trouble)
        self._stale_since: float | None = None
        self._dropped = 0

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            PortInUse: somebody else does.
        """
        if self._endpoint is not None:
            await self._endpoint.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._endpoint is not None:
            await self._endpoint.close()

    @property
    def address(self) -> Address | None:
        """Where metrics are scraped; None: nowhere."""
        return None if self._endpoint is None else self._endpoint.address

    @cached_property
    def _version(self) -> str:
        return importlib.metadata.version("mesh")

    async def run(self) -> None:
        """Note since when the agent has run on old news, until cancelled."""
        while self._endpoint is not None:
            if not self._observed.troubles():
                self._stale_since = None
            elif self._stale_since is None:
                self._stale_since = self._clock.monotonic()
            await self._clock.sleep(_LOOK)

    async def collect(self) -> str:
        """One scrape's answer; without its Envoy's part while that does not answer."""
        statistics: Statistics | None = None
        with contextlib.suppress(Unavailable):  # told as mesh_envoy_up
            statistics = await self._observed.data_plane.statistics()
        own = (
            build_info("sidecar", self._version),
            *health(self._health(is_envoy_up=statistics is not None)),
        )
        service = self._observed.placement.service
        counted: tuple[Family, ...] = traffic(statistics, service) if statistics else ()
        kept, dropped = bounded(counted)
        self._dropped += dropped
        return text((*own, dropped_series(self._dropped), *kept))

    def _trouble(self) -> str | None:
        """Stale is not ill: who serves on with old news shall not be restarted for it."""
        return None if self._observed.standing.value.is_serving else "the sidecar does not serve"

    def _health(self, *, is_envoy_up: bool) -> AgentHealth:
        seen = self._observed
        standing, svid = seen.standing.value, seen.certificates.newest.value
        since = self._stale_since
        return AgentHealth(
            id=seen.placement.id,
            service=seen.placement.service,
            version=self._version,
            head=seen.policies.head,
            compiled=standing.seen,
            applied=standing.revision,
            is_store_up=seen.policies.is_in_touch,
            is_discovery_up=seen.catalog.newest.value.stale is None,
            is_authority_up=seen.certificates.is_authority_up,
            stale_seconds=0.0 if since is None else self._clock.monotonic() - since,
            certificate_not_after=None if svid is None else svid.not_after,
            rejections=len(seen.acknowledged.value.rejections),
            nacks=seen.acknowledged.value.nacks,
            is_compiled=seen.compiled.value.failure is None,
            is_envoy_up=is_envoy_up,
            envoy_restarts=seen.data_plane.restarts,
        )
