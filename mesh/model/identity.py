"""Who is who: service names, SPIFFE identities, certificates and trust bundles."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

DEFAULT_NAMESPACE = "default"
DEFAULT_TRUST_DOMAIN = "mesh.local"


class ServiceName(NamedTuple):
    """A service's namespace and name, each an RFC 1123 label."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, order=True)
class Identity:
    """What a certificate says: `spiffe://<trust domain>/ns/<namespace>/svc/<service>`."""

    trust_domain: str
    service: ServiceName

    @property
    def uri(self) -> str:
        """The SPIFFE ID (SPIFFE-ID section 2)."""
        return f"spiffe://{self.trust_domain}/ns/{self.service.namespace}/svc/{self.service.name}"


@dataclass(frozen=True, slots=True)
class SVID:
    """An X.509-SVID with its private key; the key hides from `repr`, logs and comparisons.

    `chain_pem` is the leaf, then the intermediates (no root). Times are aware UTC.
    """

    identity: Identity
    chain_pem: bytes
    private_key_pem: bytes = field(repr=False, compare=False)
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class TrustBundle:
    """The roots (concatenated PEM) that members of a trust domain are verified against."""

    trust_domain: str
    roots_pem: bytes
