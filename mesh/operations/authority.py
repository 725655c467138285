"""The certificate authority's service, as the store knows it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from mesh.ca.service import ServiceStatus, read_status
from mesh.operations.doctor import Finding, Level
from mesh.planning import keyspace
from mesh.ports import Entry, Store

# The server's own certificate is replaced at half of its day.
_MIN_SERVER_LEFT = timedelta(hours=6)


@dataclass(frozen=True, slots=True)
class ServedAuthority:
    """What the service said of itself last, and whether it is there."""

    status: ServiceStatus
    is_alive: bool


async def read_served(store: Store) -> ServedAuthority | None:
    """The service of this mesh; None where there never was one."""
    return served(await store.scan(keyspace.CA))


def served(entries: Mapping[str, Entry]) -> ServedAuthority | None:
    """The same of entries under `keyspace.CA`."""
    entry = entries.get(keyspace.CA_STATUS)
    if entry is None:
        return None
    try:
        return ServedAuthority(read_status(entry.value), keyspace.CA_ALIVE in entries)
    except ValueError:
        return None  # another version's: it is written anew when the service comes up


def check_served(found: ServedAuthority | None, now: datetime) -> Iterator[Finding]:
    """Whether the service lives, and whether its own certificates do."""
    if found is None:
        return
    status = found.status
    where = status.url.partition("?")[0]
    if not found.is_alive:
        message = f"{where} is not there: nobody joins, and certificates are not renewed"
        hint = "start `mesh ca serve` again with its state folder"
        yield Finding("ca service", Level.ERROR, message, hint)
        return
    for name, end in sorted(status.not_after.items()):
        if end <= now:
            message = f"{where}: its {name} certificate expired {end:%Y-%m-%d %H:%M}Z"
            yield Finding("ca service", Level.ERROR, message, "see its log; mesh ca status")
        elif name == "server" and end - now < _MIN_SERVER_LEFT:
            message = f"{where}: its server certificate ends {end:%Y-%m-%d %H:%M}Z"
            yield Finding("ca service", Level.WARNING, message, "see its log: it is not replaced")
    yield Finding("ca service", Level.OK, f'{where} serves "{status.trust_domain}"')
