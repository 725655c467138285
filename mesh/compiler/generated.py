"""What every generator gives to `assemble`, and the names that they share."""

from dataclasses import dataclass, field
from typing import Any, Final

from mesh.diagnostics import Position
from mesh.model.policy import Kind, Target
from mesh.model.snapshot import ResourceType

JSON = dict[str, Any]
"""A message in the shape of Envoy's documentation (proto3 JSON, snake_case)."""

SVID_SECRET: Final = "svid"  # noqa: S105 -- the name of a secret, not a secret
"""The SDS secret with the sidecar's own leaf and key."""

PEERS_SECRET: Final = "peers"  # noqa: S105 -- the name of a secret, not a secret
"""The SDS secret with the validation context: the SPIFFE validator and its trust bundle."""

CALLERS_SECRET: Final = "callers"  # noqa: S105 -- the name of a secret, not a secret
"""The SDS secret of a TCP service's inbound listener: PEERS_SECRET, for its callers only."""

APP_CLUSTER: Final = "app"
"""The cluster of the application beside the sidecar."""

OUTBOUND_ROUTES: Final = "outbound"
INBOUND_ROUTES: Final = "inbound"

REASON_HEADER: Final = "x-mesh-reason"
"""Why a sidecar answered itself. The direct responses of routes carry it already (`unknown-host`,
`no-route`, `no-backend`); all other local replies get it from the HTTP listeners' mappers, and an
application's own is removed by the inbound routes (by the outbound ones for ExternalServices).
"""

REASON_CONNECT: Final = "connect-failure"
REASON_RESET: Final = "reset"
"""How the application failed: it accepts no connection (response flag UF), or it hung up (UC, UR).
Over two hops both are an ordinary 503, so that the caller's sidecar retries on these reasons.
"""

ADS: Final[JSON] = {
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
    json: JSON = field(repr=False)
    sources: tuple[Position, ...] = ()
    names: tuple[tuple[ResourceType, str], ...] = ()


def cluster_name(target: Target) -> str:
    """The name of a destination's cluster: `service/<ns>/<name>` or `external/<ns>/<name>`."""
    prefix = "external" if target.kind is Kind.EXTERNAL_SERVICE else "service"
    return f"{prefix}/{target.namespace}/{target.name}"
