"""From an Envoy that starts to a sidecar that serves, and that others know of."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from mesh.latest import Latest
from mesh.ports import Clock
from mesh.sidecar.place import Place
from mesh.sidecar.policies import PolicySource
from mesh.sidecar.registration import Registration
from mesh.sidecar.reporter import RENEWAL, Reporter, rival
from mesh.sidecar.standing import Standing
from mesh.sidecar.waiting import newer_within, set_within

# From a registration to the moment when callers' Envoys have it: who reads "ready" may call.
_ARRIVAL = timedelta(milliseconds=150)
# So many renewals are longer than the lease of a sidecar that is gone.
_ID_LOOKS = 5
_STEP = timedelta(seconds=2)


class Arrival:
    """`serving` is set when the instance may be registered, `announced` when it may be said to
    run a revision. `remember` keeps the state on the disk.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        place: Place,
        policies: PolicySource,
        standing: Latest[Standing],
        reporter: Reporter,
        registration: Registration | None,
        remember: Callable[[], Awaitable[None]],
    ) -> None:
        self._clock = clock
        self._place = place
        self._policies = policies
        self._standing = standing
        self._reporter = reporter
        self._registration = registration
        self._remember = remember
        self.serving = asyncio.Event()
        self.announced = asyncio.Event()

    async def run(self, tell: Callable[[], None]) -> None:
        """Call `tell` when the sidecar serves; without any revision that is: nothing, as it shall.

        Raises:
            Conflict: another host's sidecar has its id.
        """
        await self._place.data_plane.wait_ready()
        await self._until(lambda now: now.is_serving or self._is_empty(now))
        is_empty = not self._standing.value.is_serving
        if is_empty:
            tell()
            await self._until(lambda now: now.is_serving)
        await self._own_id()
        self.serving.set()
        await self._arrive()
        version = self._reporter.written.version
        self.announced.set()
        self._reporter.changed()
        await self._remember()  # who is ready survives a power cut
        if self._policies.is_in_touch:  # and is seen by who looks
            await newer_within(self._reporter.written, version, 2 * _ARRIVAL)
        if not is_empty:
            tell()

    async def _own_id(self) -> None:
        """Return unless another host's sidecar has this id and goes on reporting under it for
        longer than the lease of one that is gone. Where the store is away nobody can tell.
        """
        reporter = self._reporter
        if self._policies.is_in_touch:
            await newer_within(reporter.holds, 0, _STEP)
        for _ in range(_ID_LOOKS):
            if reporter.holds.value is not False:
                return
            await self._clock.sleep(RENEWAL)
        await self._place.data_plane.drain(timedelta())
        raise rival(self._place.folder.id)

    def _is_empty(self, standing: Standing) -> bool:
        scope = self._policies.newest.value
        is_told = standing.generation > 0 and standing.is_open
        return is_told and scope is not None and scope.head is None

    async def _until(self, holds: Callable[[Standing], bool]) -> None:
        async for standing in self._standing.changes():
            if holds(standing):
                return

    async def _arrive(self) -> None:
        """Give a first registration the moment that callers need to learn of it."""
        registration = self._registration
        if registration is None or not await registration.app_accepts():
            return
        await set_within(registration.tried, _STEP / 2)
        if registration.is_registered:
            await self._clock.sleep(_ARRIVAL)
