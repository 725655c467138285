"""What a sidecar is given, and what it says when it serves."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from mesh.model.identity import ServiceName
from mesh.model.policy import Address
from mesh.ports import Clock, ConfigurationServer, DataPlane, Discovery, Issuer, Store


class Scraped(Protocol):
    """An endpoint for Prometheus: listens between `open` and `close`, at `address`."""

    @property
    def address(self) -> Address:
        """Where it listens, once it is open."""
        ...

    async def open(self) -> None:
        """Listen, or raise PortInUse."""
        ...

    async def close(self) -> None:
        """Listen no longer."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SidecarPorts:
    """The outside world of one sidecar, as makers: nothing may be entered before it starts.

    `store` and `discovery` are made anew for each try to enter them; `discovery` is given a
    store that needs no entering. `issuer` is made for a trust domain, the configuration server
    for its Unix socket, the data plane for its private folder and Envoy's bootstrap.
    `scrape` is made for an address, what /metrics answers and why the sidecar does not serve (None:
    it does); without it there are no metrics. `is_trust_published`: the authority publishes its
    roots in the store itself. `upgrade` says what has been installed since the sidecar started.
    """

    clock: Clock
    store: Callable[[], Store]
    discovery: Callable[[Store], Discovery]
    issuer: Callable[[str], Issuer]
    configuration_server: Callable[[Path], ConfigurationServer]
    data_plane: Callable[[Path, Mapping[str, Any]], DataPlane]
    is_trust_published: bool = False
    scrape: (
        Callable[[Address, Callable[[], Awaitable[str]], Callable[[], str | None]], Scraped] | None
    ) = None
    upgrade: Callable[[], str | None] = lambda: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A sidecar that serves. `inbound` is None for a caller only, `metrics` where none are told."""

    id: str
    service: ServiceName
    inbound: Address | None
    outbound: Address
    upstreams: Mapping[ServiceName, Address] = field(default_factory=dict)
    revision: int = 0
    metrics: Address | None = None
