"""The `Mesh`: the one document about all of it."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from mesh.model.identity import DEFAULT_TRUST_DOMAIN
from mesh.model.policy.reference import PolicyKey


class Default(StrEnum):
    """What happens to a request that no rule decides."""

    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """The one document about the whole mesh; absent, these defaults hold."""

    key: PolicyKey
    trust_domain: str = DEFAULT_TRUST_DOMAIN
    access_default: Default = Default.DENY
    certificate_lifetime: timedelta = timedelta(hours=24)
    max_connection_duration: timedelta = timedelta(hours=1)
