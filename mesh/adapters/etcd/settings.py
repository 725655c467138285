"""Where an etcd cluster is and how to speak to it."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

DEFAULT_PREFIX = "mesh"


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdSettings:
    """`endpoints` are `host:port` of any members, at least one; each one's certificate must name
    the host as it is written here. All keys lie below `prefix` (empty: `mesh`).

    `cacert` turns TLS on, as do `cert` and `key` (PEM files), by which the client authenticates;
    without `cacert` the machine's own roots are trusted. The files are read again after a failure,
    so that renewed ones are taken up. `timeout` bounds each call.
    """

    endpoints: tuple[str, ...]
    prefix: str = DEFAULT_PREFIX
    cacert: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    timeout: timedelta = timedelta(seconds=5)

    @property
    def base(self) -> bytes:
        """What every key in etcd starts with: the prefix and a slash, no slash in front."""
        return f"{self.prefix.strip('/') or DEFAULT_PREFIX}/".encode()
