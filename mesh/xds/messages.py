"""What travels over a delta xDS stream, and what came of it, without gRPC or protobuf."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mesh.model.snapshot import Rejection, Resource, ResourceType


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaRequest:
    """A `DeltaDiscoveryRequest`: a change of subscriptions, an ACK or a NACK, or both at once.

    `nonce` names the response that is answered (empty: none); with an `error` it is refused.
    `initial_versions` is what Envoy still has from an earlier stream (first request of a type).
    """

    type: ResourceType
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    initial_versions: Mapping[str, str] = field(default_factory=dict)
    nonce: str = ""
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaResponse:
    """A `DeltaDiscoveryResponse`. `nonce` is unique within its stream."""

    type: ResourceType
    resources: tuple[Resource, ...] = ()
    removed: tuple[str, ...] = ()
    nonce: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The newest generation that Envoy runs, but for its rejections; 0 is none yet."""

    generation: int = 0
    revision: int = 0
    rejections: tuple[Rejection, ...] = ()
