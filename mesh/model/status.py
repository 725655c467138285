"""What a sidecar says of itself, and what a reader makes of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from mesh.diagnostics import Diagnostic
from mesh.model.identity import ServiceName
from mesh.model.policy import Address


class SidecarState(StrEnum):
    """IN_SYNC runs head; PENDING does not yet; REJECTED never will, see the message; STALE is
    out of touch (its lease ran out, or it lost the store).
    """

    IN_SYNC = "in-sync"
    PENDING = "pending"
    REJECTED = "rejected"
    STALE = "stale"


@dataclass(frozen=True, slots=True, kw_only=True)
class SidecarStatus:
    """What a sidecar reports. `revision` is the newest it runs in full, `seen` the newest it
    compiled; `rejections` are of `seen`. `stale` is why it runs on old news, if it does, and
    `upgrade` what is newer on its disk than what runs, if something is.
    `app` is where the application shall be; callers get nothing from it unless `is_app_accepting`.
    """

    id: str
    service: ServiceName
    revision: int
    seen: int
    inbound: Address | None
    outbound: Address
    upstreams: Mapping[ServiceName, Address] = field(default_factory=dict)
    rejections: tuple[Diagnostic, ...] = ()
    stale: str | None = None
    upgrade: str | None = None
    certificate_not_after: datetime | None = None
    sockets: str = ""
    app: Address | None = None
    is_app_accepting: bool = True
    time: datetime
