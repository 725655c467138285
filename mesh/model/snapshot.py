"""What one Envoy shall run: xDS resources by type and name, each with its version."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from mesh.diagnostics import Position

_PREFIX = "type.googleapis.com/envoy."


class ResourceType(StrEnum):
    """The six xDS types that the mesh speaks; the value is the type URL.

    Members are in make-before-break order: secrets, clusters and endpoints, extension
    configurations, listeners, routes (`docs/decisions`).
    """

    SECRET = _PREFIX + "extensions.transport_sockets.tls.v3.Secret"
    CLUSTER = _PREFIX + "config.cluster.v3.Cluster"
    ENDPOINTS = _PREFIX + "config.endpoint.v3.ClusterLoadAssignment"
    EXTENSION = _PREFIX + "config.core.v3.TypedExtensionConfig"
    LISTENER = _PREFIX + "config.listener.v3.Listener"
    ROUTE = _PREFIX + "config.route.v3.RouteConfiguration"

    __hash__ = str.__hash__  # Enum's own is a call in Python, for each look-up


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One xDS resource. `body` is the deterministic serialization of the message that
    `type` names, `version` the SHA-256 (hex) of `body`; `body` may be a private key, so it
    hides from `repr`.

    `names` are the resources that it refers to (a cluster its endpoints and secrets, a listener
    its routes, secrets and extensions, a route its clusters). `sources` are the places of the
    documents it came from, for a rejection to name.
    """

    type: ResourceType
    name: str
    version: str
    body: bytes = field(repr=False)
    names: tuple[tuple[ResourceType, str], ...] = ()
    sources: tuple[Position, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All resources of one sidecar; every reference inside it resolves."""

    revision: int = 0
    resources: Mapping[ResourceType, Mapping[str, Resource]] = field(
        default_factory=lambda: MappingProxyType({})
    )

    def of(self, kind: ResourceType) -> Mapping[str, Resource]:
        """The resources of one type by name; empty if there are none."""
        return self.resources.get(kind, MappingProxyType({}))


# Envoy gives its refusals no type but their words.
_NOT_BOUND = "cannot bind "


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Envoy refused this resource at this version; the last good one stays in force."""

    type: ResourceType
    name: str
    version: str
    detail: str
    sources: tuple[Position, ...] = ()

    @property
    def is_passing(self) -> bool:
        """Whether it may be accepted later as it is: somebody else holds a listener's port."""
        return self.type is ResourceType.LISTENER and _NOT_BOUND in self.detail
