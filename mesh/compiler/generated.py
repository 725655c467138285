"""What every generator gives to `assemble`, and the names that they share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mesh.diagnostics import Position
from mesh.model.policy import Kind, Target
from mesh.model.snapshot import ResourceType

JSON = dict[str, Any]
"""A message of Envoy's API in its JSON form, field names as in the `.proto` files."""

SVID_SECRET: Final = "svid"  # noqa: S105 -- the name of a secret, not a secret
"""The SDS secret with the sidecar's own leaf and key."""

PEERS_SECRET: Final = "peers"  # noqa: S105 -- the name of a secret, not a secret
"""The SDS secret with the validation context: the SPIFFE validator and its trust bundle."""

APP_CLUSTER: Final = "app"
"""The cluster of the application beside the sidecar."""

OUTBOUND_ROUTES: Final = "outbound"
INBOUND_ROUTES: Final = "inbound"

ADS: Final[Mapping[str, Any]] = {
    "ads": {},
    "resource_api_version": "V3",
    "initial_fetch_timeout": "5s",
}
"""Every ConfigSource of every resource, the same bytes for ever: Envoy 1.40 does not ask again for
a secret when only its ConfigSource changes, and then answers 503 for good (envoy#47309). Part of
the agent's compatibility promise: an upgraded agent must produce the same.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """One xDS resource as JSON in the shape of Envoy's documentation, without `@type`.

    `names` are the resources that it refers to and that must be in the same snapshot; `sources`
    are the places of the documents it came from.
    """

    type: ResourceType
    name: str
    json: Mapping[str, Any] = field(repr=False)
    sources: tuple[Position, ...] = ()
    names: tuple[tuple[ResourceType, str], ...] = ()


def cluster_name(target: Target) -> str:
    """The name of a destination's cluster: `service/<ns>/<name>` or `external/<ns>/<name>`."""
    prefix = "external" if target.kind is Kind.EXTERNAL_SERVICE else "service"
    return f"{prefix}/{target.namespace}/{target.name}"
