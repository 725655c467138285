"""What the certificate authority's service says of itself in the store."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatus:
    """`url` is what sidecars are given as MESH_CA; `roots` are the fingerprints of its own roots;
    `not_after` says when `root` (the one that ends first), `intermediate` and `server` expire.
    """

    url: str
    version: str
    trust_domain: str
    roots: tuple[str, ...]
    not_after: Mapping[str, datetime]


def write_status(status: ServiceStatus) -> bytes:
    """The bytes of a status; `read_status` is the inverse."""
    value = {
        "url": status.url,
        "version": status.version,
        "trust_domain": status.trust_domain,
        "roots": list(status.roots),
        "not_after": {name: end.isoformat() for name, end in status.not_after.items()},
    }
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def read_status(content: bytes) -> ServiceStatus:
    """Read a status.

    Raises:
        ValueError: it is none.
    """
    try:
        value = json.loads(content)
        return ServiceStatus(
            url=str(value["url"]),
            version=str(value["version"]),
            trust_domain=str(value["trust_domain"]),
            roots=tuple(value["roots"]),
            not_after={
                name: datetime.fromisoformat(end) for name, end in value["not_after"].items()
            },
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not the status of a certificate authority: {error!r}") from error
