"""Where instances are: what Discovery knows, as one value."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from mesh.model.identity import ServiceName


class Health(StrEnum):
    """HEALTHY takes requests. DEGRADED (its registration expired: silent, not gone) takes them
    when no healthy one is left. UNHEALTHY (its check fails) takes none.
    """

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One registered instance: `id` is the sidecar's, the address its inbound listener's."""

    id: str
    service: ServiceName
    address: str
    port: int
    meta: Mapping[str, str] = field(default_factory=dict)
    tags: frozenset[str] = frozenset()
    datacenter: str | None = None
    health: Health = Health.HEALTHY


@dataclass(frozen=True, slots=True)
class Catalog:
    """Endpoints by the service they registered as, each tuple sorted by id.

    `names` are all registered service names where the watcher asked for them, else empty.
    `stale` holds the reason while the source is unreachable; the endpoints are the last good.
    """

    endpoints: Mapping[ServiceName, tuple[Endpoint, ...]] = field(default_factory=dict)
    names: frozenset[ServiceName] = frozenset()
    stale: str | None = None
