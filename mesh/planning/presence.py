"""What a watcher makes of instances that fall silent, and of answers that come back empty.

Gone is not silent: an instance whose registration ran out is kept as a last resort for a while,
because its Envoy may serve on without its agent. And empty is not gone: a store that was wiped or
a credential that was revoked looks like a service without instances.

Moments are seconds of a monotonic clock: setting the time of day removes nobody.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from mesh.model.catalog import Endpoint

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
