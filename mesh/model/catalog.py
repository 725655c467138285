"""Where instances are: what Discovery knows, as one value."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

from mesh.model.identity import ServiceName

MAX_PORT = 65535


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


def is_reachable(address: str, port: int) -> bool:
    """Whether an Envoy takes them: an IP address without a zone, and a port.

    Envoy refuses a whole service's endpoints for one that is not (`socket_address` without a
    resolver), so nothing else may come out of Discovery.
    """
    return 0 < port <= MAX_PORT and "%" not in address and _is_ip(address)


@lru_cache(1024)
def _is_ip(address: str) -> bool:
    """Remembered: each answer of Discovery has all instances of a service again."""
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Catalog:
    """Endpoints by the service they registered as, each tuple sorted by id.

    `names` are all registered service names where the watcher asked for them, else empty.
    `stale` holds the reason while the source is unreachable; the endpoints are the last good.
    """

    endpoints: Mapping[ServiceName, tuple[Endpoint, ...]] = field(default_factory=dict)
    names: frozenset[ServiceName] = frozenset()
    stale: str | None = None
