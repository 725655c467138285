"""The sidecars of the mesh, as they report themselves."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mesh.model.policy import PolicyKey
from mesh.model.revision import Manifest
from mesh.model.status import SidecarState, SidecarStatus
from mesh.planning import keyspace
from mesh.planning.scope import Scopes
from mesh.planning.status_codec import decode_status
from mesh.ports import Entry, Store


@dataclass(frozen=True, slots=True)
class Member:
    """A sidecar that reported; `is_alive` while its lease lasts."""

    status: SidecarStatus
    is_alive: bool

    def state(self, head: int) -> SidecarState:
        """What a reader makes of the report when the newest revision is `head`."""
        if not self.is_alive or self.status.stale:
            return SidecarState.STALE
        if self.status.rejections and self.status.revision < head:
            return SidecarState.REJECTED
        return SidecarState.IN_SYNC if self.status.revision >= head else SidecarState.PENDING

    @property
    def message(self) -> str:
        """Why it is not in sync, or what else is wrong with it; empty when all is well."""
        if not self.is_alive:
            return f"silent since {self.status.time.isoformat(timespec='seconds')}"
        if self.status.rejections:
            return "; ".join(str(item).splitlines()[0] for item in self.status.rejections)
        return self.status.stale or self.app_trouble

    @property
    def app_trouble(self) -> str:
        """That the application is down, if it is; a sidecar in sync may have none behind it."""
        app = self.status.app
        if app is None or self.status.is_app_accepting or not self.is_alive:
            return ""
        return f"the application accepts no connections at {app.address}:{app.port}"


async def read_members(store: Store) -> tuple[Member, ...]:
    """Every sidecar, by id."""
    return members(await store.scan(keyspace.SIDECARS))


def members(entries: Mapping[str, Entry]) -> tuple[Member, ...]:
    """The sidecars in what a scan or watch of `sidecars/` gave, by id."""
    found = []
    for key, entry in sorted(entries.items()):
        if key.endswith(f"/{keyspace.STATUS}"):
            status = decode_status(entry.value)
            alive = keyspace.sidecar(status.id, keyspace.ALIVE) in entries
            found.append(Member(status, alive))
    return tuple(found)


def concerned(
    members: Iterable[Member], before: Manifest, after: Manifest, keys: frozenset[PolicyKey]
) -> tuple[SidecarStatus, ...]:
    """The live sidecars that a change of the documents `keys` touches."""
    live = [member.status for member in members if member.is_alive]
    if not live:
        return ()
    old, new = Scopes(before), Scopes(after)
    touched = {
        service: not keys.isdisjoint(old.closure(service) | new.closure(service))
        for service in {status.service for status in live}
    }
    return tuple(status for status in live if touched[status.service])
