"""Where one sidecar sits: what only its host knows."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mesh.model.identity import ServiceName
from mesh.model.policy import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The listeners of one sidecar, every port decided (no zero).

    `inbound` and `app` are None for a caller-only sidecar. `upstreams` are the loopback
    addresses of the TCP services in its scope, given by the agent and kept over restarts.
    `metrics`: somebody scrapes this sidecar, so that its Envoy counts codes and times.
    """

    id: str
    service: ServiceName
    outbound: Address
    inbound: Address | None = None
    app: Address | None = None
    upstreams: Mapping[ServiceName, Address] = field(default_factory=dict)
    metrics: bool = False
