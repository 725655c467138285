"""What stands in for an Envoy: takes every snapshot at once and notes when."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any

from mesh.latest import Latest
from mesh.model.snapshot import Rejection, Snapshot
from mesh.ports import Acknowledged


class StandIn:
    """`DataPlane` and `ConfigurationServer` of one agent at once.

    `published` is (revision, moment of the monotonic clock) of every snapshot, which all processes
    of a machine share. It outlives its agent, as an Envoy does: the next one finds it ready.
    """

    def __init__(self) -> None:
        self.published: list[tuple[int, float]] = []
        self._snapshot = Snapshot()
        self._runs = False
        self._generation = 0
        self._newest: Latest[Acknowledged] = Latest(Acknowledged())

    def data_plane(self, _folder: Path, _bootstrap: Mapping[str, Any]) -> "StandIn":
        """As the maker of a data plane."""
        return self

    def server(self, _socket: Path) -> "StandIn":
        """As the maker of a configuration server, which begins anew."""
        self._generation = 0
        self._newest = Latest(Acknowledged())
        return self

    restarts = 0

    async def run(self, leave: Callable[[], Awaitable[object]] | None = None) -> None:
        """As either of the two, until cancelled."""
        self._runs = True
        await asyncio.Event().wait()

    async def wait_ready(self) -> None:
        """At once."""

    async def is_ready(self) -> bool:
        """Once it ran, and ever after."""
        return self._runs

    async def statistics(self) -> Any:
        """Nobody asks without a metrics address."""
        raise NotImplementedError

    async def drain(self, grace: timedelta) -> None:
        """There is nothing to drain."""

    def publish(self, snapshot: Snapshot) -> int:
        """Take a snapshot, and acknowledge it."""
        self._generation += 1
        self.published.append((snapshot.revision, monotonic()))
        self._snapshot = snapshot
        self._newest.set(Acknowledged(generation=self._generation, revision=snapshot.revision))
        return self._generation

    def offer_again(self, refused: Iterable[Rejection]) -> None:
        """Nothing is ever refused here."""

    @property
    def size_bytes(self) -> int:
        """The size of the newest snapshot: counted when somebody asks, not at each publish."""
        return sum(len(r.body) for each in self._snapshot.resources.values() for r in each.values())

    async def acknowledgements(self) -> AsyncIterator[Acknowledged]:
        """As the port says."""
        async for one in self._newest.changes():
            yield one
