"""What the service is given, and what it says when it serves."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from mesh.authority.limits import Limits
from mesh.model.identity import TrustBundle
from mesh.model.policy import Address
from mesh.ports import Clock, Issuer, Store

# The roots as of now, which the server takes from then on.
Bundles = Callable[[], Awaitable[TrustBundle]]

# Nobody revokes a leaf: what is asked for longer than this is signed for this long.
LONGEST_LEAF = timedelta(days=7)


class Signer(Issuer, Protocol):
    """The signing core: an issuer that also makes the certificate of the service's own server."""

    async def issue_server(self, names: Sequence[str], csr_pem: bytes) -> bytes:
        """The chain (PEM, leaf first, no root) for a server that is reached by these names."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityPorts:
    """The outside world of the service; `store` is entered already."""

    clock: Clock
    store: Store
    signer: Signer


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityOptions:
    """`names` are the hosts and addresses that clients reach the service by, the first one being
    the one it tells; `metrics` is a second, plain listener that has figures and nothing else.
    """

    listen: Address
    names: tuple[str, ...]
    version: str
    metrics: Address | None = None
    longest_leaf: timedelta = LONGEST_LEAF
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A service that serves. `url` is what sidecars are given as MESH_CA."""

    url: str
    listen: Address
    metrics: Address | None
    fingerprint: str
    trust_domain: str
    names: tuple[str, ...]
