"""What a watcher makes of instances that fall silent, and of answers that come back empty.

Gone is not silent: an instance whose registration ran out is kept as a last resort for a while,
because its Envoy may serve on without its agent. And empty is not gone: a store that was wiped or
a credential that was revoked looks like a service without instances.

Moments are seconds of a monotonic clock: setting the time of day removes nobody.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from mesh.model.catalog import Catalog, Endpoint
from mesh.model.identity import ServiceName

SILENCE_SECONDS = 600.0
EMPTY_GRACE_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """The instances of one service as a watcher sees them.

    `endpoints` are those to use, sorted by id. `silent_since` has the moment at which each
    silent one was first seen silent; `forgotten` are silent for too long. `emptied_at` is when
    an answer was empty that is not believed yet: `endpoints` are then those from before.
    """

    endpoints: tuple[Endpoint, ...] = ()
    silent_since: Mapping[str, float] = field(default_factory=dict)
    forgotten: tuple[Endpoint, ...] = ()
    emptied_at: float | None = None

    @property
    def is_held(self) -> bool:
        """Whether an empty answer is being doubted."""
        return self.emptied_at is not None

    @property
    def changes_with_time(self) -> bool:
        """Whether `observe` may say something else later for the same answer."""
        return self.is_held or bool(self.silent_since)


def observe(
    before: Presence,
    found: Iterable[Endpoint],
    *,
    silent: Collection[str] = (),
    is_orderly: bool,
    now: float,
) -> Presence:
    """What to use after an answer, or after the same answer some time later.

    `silent` are ids of instances whose registration ran out. `is_orderly`: an empty answer came
    by ordinary deregistrations, as far as the source can tell; any other is held for
    `EMPTY_GRACE_SECONDS`.
    """
    answer = sorted(found, key=lambda endpoint: endpoint.id)
    if not answer and before.endpoints and (before.is_held or not is_orderly):
        emptied_at = now if before.emptied_at is None else before.emptied_at
        if now - emptied_at < EMPTY_GRACE_SECONDS:
            return replace(before, emptied_at=emptied_at, forgotten=())
    since = {
        endpoint.id: before.silent_since.get(endpoint.id, now)
        for endpoint in answer
        if endpoint.id in silent
    }
    forgotten = {id for id, moment in since.items() if now - moment >= SILENCE_SECONDS}
    return Presence(
        endpoints=tuple(endpoint for endpoint in answer if endpoint.id not in forgotten),
        silent_since=since,
        forgotten=tuple(endpoint for endpoint in answer if endpoint.id in forgotten),
    )


def vanished(service: ServiceName | None) -> str:
    """Why a catalog is stale that holds instances against an empty answer; None: all services."""
    what = "services" if service is None else f"instances of {service}"
    return f"all {what} vanished at once: the last known are kept for now"


@dataclass(slots=True)
class _Attendance:
    """One service's newest answer and what is made of it."""

    found: tuple[Endpoint, ...] = ()
    silent: frozenset[str] = frozenset()
    presence: Presence = field(default_factory=Presence)


class Roster:
    """What one watch knows of the services that it was asked for, whatever its source."""

    def __init__(self, services: Iterable[ServiceName]) -> None:
        self._services = {service: _Attendance() for service in sorted(services)}
        self._lost: dict[str, str] = {}

    @property
    def changes_with_time(self) -> bool:
        """Whether `age` may change something."""
        return any(one.presence.changes_with_time for one in self._services.values())

    def is_lost(self, source: str) -> bool:
        """Whether a part of the source is out of reach."""
        return source in self._lost

    def lose(self, source: str, reason: str) -> None:
        """A part of the source is out of reach; what it said last stays."""
        self._lost[source] = reason

    def heal(self, source: str) -> None:
        """A part of the source answers again."""
        self._lost.pop(source, None)

    def receive(
        self,
        service: ServiceName,
        found: Iterable[Endpoint],
        *,
        silent: Collection[str],
        is_orderly: bool,
        now: float,
    ) -> None:
        """Take in an answer about a service; as `observe`."""
        attendance = self._services[service]
        attendance.found, attendance.silent = tuple(found), frozenset(silent)
        self._observe(attendance, is_orderly=is_orderly, now=now)

    def endpoints(self, service: ServiceName) -> tuple[Endpoint, ...]:
        """The endpoints to use for a service."""
        return self._services[service].presence.endpoints

    def age(self, now: float) -> tuple[Endpoint, ...]:
        """Look at the same answers later; who was silent for too long.

        Nothing changes while a part of the source is lost: who is silent is unknown then.
        """
        if self._lost:
            return ()
        for attendance in self._services.values():
            self._observe(attendance, is_orderly=True, now=now)
        return tuple(
            endpoint for one in self._services.values() for endpoint in one.presence.forgotten
        )

    def catalog(self, names: Iterable[ServiceName] = ()) -> Catalog:
        """The catalog as of now."""
        stale = next((self._lost[source] for source in sorted(self._lost)), None)
        held = [service for service, one in self._services.items() if one.presence.is_held]
        if stale is None and held:
            stale = vanished(held[0])
        endpoints = {service: one.presence.endpoints for service, one in self._services.items()}
        return Catalog(endpoints, frozenset(names), stale)

    @staticmethod
    def _observe(attendance: _Attendance, *, is_orderly: bool, now: float) -> None:
        attendance.presence = observe(
            attendance.presence,
            attendance.found,
            silent=attendance.silent,
            is_orderly=is_orderly,
            now=now,
        )
