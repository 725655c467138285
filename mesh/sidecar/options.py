"""What a user says about one sidecar, before anything is decided."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from mesh.model.identity import ServiceName
from mesh.model.policy import Address

INBOUND = Address("0.0.0.0", 15006)  # noqa: S104 (peers on other hosts call it)
OUTBOUND = Address("127.0.0.1", 15001)
# Docker kills ten seconds after SIGTERM.
DRAIN = timedelta(seconds=8)


@dataclass(frozen=True, slots=True, kw_only=True)
class SidecarOptions:
    """The command line of `mesh sidecar` and `mesh run`, parsed.

    `app is None`: a caller only, without an inbound listener. Port 0 takes a free one.
    `upstreams` pins TCP services to loopback addresses (port 0: chosen by the agent).
    `advertise` is the host that others reach `inbound` at; None lets the agent find it.
    `metrics` is where Prometheus scrapes; None: nowhere, and Envoy counts less.
    `drain` is how long open requests may take to finish when the sidecar ends.
    `id is None`: `<host>-<namespace>-<service>-<n>`, the lowest n that nobody holds.
    `state` is the folder of MESH_STATE; a sidecar keeps its files in `sidecars/<id>` below.
    """

    service: ServiceName
    state: Path
    app: Address | None = None
    inbound: Address = INBOUND
    outbound: Address = OUTBOUND
    upstreams: Mapping[ServiceName, Address] = field(default_factory=dict)
    advertise: str | None = None
    meta: Mapping[str, str] = field(default_factory=dict)
    tags: frozenset[str] = frozenset()
    id: str | None = None
    metrics: Address | None = None
    drain: timedelta = DRAIN
