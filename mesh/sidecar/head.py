"""What the store says of head: told by a watch, and asked for while a storm outruns the watch.

A watch tells of every commit. An agent that has no time for all of them would work through a
queue, and what it runs would grow older with each commit: so it looks, now and then in a series of
commits, how far the watch is behind. An agent that asks has never more than one question open:
the newest answer is at most as old as its own turn is long.
"""

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import structlog

from mesh.errors import MeshError
from mesh.latest import Latest
from mesh.planning import keyspace, record
from mesh.ports import Clock, Entry, Store
from mesh.sidecar.retry import Outage
from mesh.sidecar.waiting import closing

INTERVAL = timedelta(milliseconds=100)
# Commits that follow one another this closely are a series, and those that are told at once: the
# agent had no time between. Each second one of a series is looked at.
_SERIES = timedelta(milliseconds=500)
_LOOK_EACH = 2
# So many commits behind is not on its way any more.
BEHIND = 4
# A storm is over when so many questions find no more than a fourth as many commits.
_QUESTIONS = 20

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Told:
    """Head's record, empty without a revision, and what is enclosed with it. `number` is the
    revision's; 0: there is none, or its record cannot be read.
    """

    head: bytes = b""
    enclosure: bytes = b""
    number: int = 0


class HeadSource:
    """Head as the store tells of it, in the cell `told`: None until the store has answered."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._outage = Outage("store")
        self.told: Latest[Told | None] = Latest(None)

    @property
    def number(self) -> int:
        """The number of the newest revision that the store told of; 0: of none."""
        return self.told.value.number if self.told.value else 0

    @property
    def is_in_touch(self) -> bool:
        """Whether the store has answered, and answers."""
        return self.told.value is not None and self.trouble is None

    @property
    def trouble(self) -> str | None:
        """Why the store is out of reach, while it is."""
        return self._outage.reason

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            await self._watch()
            _log.info("commits come faster than they can be told: asking instead", head=self.number)
            await self._ask()

    async def _watch(self) -> None:
        """Take what the watch tells, until that is too old."""
        last, length = -math.inf, 0
        async with closing(self._store.watch(keyspace.HEAD)) as states:
            async for watched in states:
                if watched.lost is not None:
                    self._outage.failed(watched.lost)
                    continue
                self._outage.recovered()
                before = self.number
                self._take(watched.entries)
                now, together = self._clock.monotonic(), self.number - before if before else 0
                is_series = now - last < _SERIES.total_seconds() or together > 1
                length = length + max(1, together) if is_series else 0
                last = now
                if length >= _LOOK_EACH:
                    length = 0
                    if await self._is_behind():
                        return

    async def _is_behind(self) -> bool:
        """Whether there is much more than the watch told; then it is taken."""
        told = self.number
        try:
            newest = await self._store.scan(keyspace.HEAD)
        except MeshError:
            return False  # the watch tells it
        if _told(newest).number - told < BEHIND:
            return False
        self._take(newest)
        return True

    async def _ask(self) -> None:
        """Ask at intervals, until a watch would do."""
        while True:
            before = self.number
            for _ in range(_QUESTIONS):
                try:
                    self._take(await self._store.scan(keyspace.HEAD))
                except MeshError:
                    return  # the watch tells of an outage, and of its end
                await self._clock.sleep(INTERVAL)
            if 4 * (self.number - before) <= _QUESTIONS:
                return

    def _take(self, entries: Mapping[str, Entry]) -> None:
        self.told.set(_told(entries))


def _told(entries: Mapping[str, Entry]) -> Told:
    values = {key: entry.value for key, entry in entries.items()}
    head = values.get(keyspace.HEAD, b"")
    number = 0
    if head:
        with contextlib.suppress(MeshError):
            number = record.parse_record(head).revision.number
    return Told(head, values.get(keyspace.ENCLOSED, b""), number)
