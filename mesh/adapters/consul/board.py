"""What one watch of Consul knows: answers of several queries put together."""

import asyncio

from mesh.adapters.consul.client import Right
from mesh.adapters.consul.shapes import Instance, Node, instances, service_names
from mesh.latest import Latest
from mesh.model.catalog import Catalog
from mesh.model.identity import ServiceName
from mesh.planning.presence import EMPTY_GRACE_SECONDS, Roster
from mesh.ports import Interest

# The query for the names of all services, beside one by each service's name.
ALL_NAMES = ""


Found = tuple[Instance, ...] | frozenset[ServiceName]
"""What an answer says: instances, or the names of all services."""


def read(query: str, answer: object) -> Found:
    """What there is for sidecars in an answer to a query."""
    return service_names(answer) if query == ALL_NAMES else instances(answer)


class Board:
    """Written by the tasks of a watch, read by its iterator: `changed` counts the writes."""

    def __init__(self, interest: Interest) -> None:
        self._interest = interest
        self._roster = Roster(interest.services)
        self.queries = (
            *sorted({service.name for service in interest.services}),
            *([ALL_NAMES] if interest.names else []),
        )
        self._missing = set(self.queries)
        self._names: frozenset[ServiceName] = frozenset()
        self._names_emptied_at: float | None = None
        # Each query's last answer in short: a service's name and a node that it showed.
        self._shown: dict[str, tuple[str, Node | None] | None] = {}
        self.changed = Latest(0)
        self.ages = asyncio.Event()

    @property
    def is_complete(self) -> bool:
        """Whether each query has been answered, or refused, once."""
        return not self._missing

    def catalog(self) -> Catalog:
        """The catalog as of now."""
        return self._roster.catalog(self._names)

    def is_suddenly_empty(self, query: str, found: Found) -> bool:
        """Whether an answer is empty, and the one before was not, or there was none."""
        return not found and self._shown.get(query, ("", None)) is not None

    def rights(self, query: str) -> list[Right]:
        """What a token needs to see what the query showed last."""
        name, node = self._shown.get(query) or (query, None)
        rights = [Right("service", name)] if name else []
        return rights + ([Right("node", node.name)] if node else [])

    def witness(self, query: str) -> Node | None:
        """A host of the query's last answer: while the catalog still has it as it was, an empty
        answer is about the instances and not about the catalog.
        """
        shown = self._shown.get(query)
        return shown[1] if shown else None

    def lose(self, query: str, reason: str) -> None:
        """A query failed: what it said last stays."""
        self._missing.discard(query)
        self._roster.lose(query, reason)
        self._announce()

    def receive(self, query: str, found: Found, *, is_orderly: bool, now: float) -> None:
        """Take in what a query's answer says; `is_orderly` and `now` as in `planning.presence`."""
        self._missing.discard(query)
        self._roster.heal(query)
        if isinstance(found, frozenset):
            self._receive_names(found, is_orderly=is_orderly, now=now)
        else:
            self._receive_instances(query, found, is_orderly=is_orderly, now=now)
        self._announce()

    def _receive_names(
        self, found: frozenset[ServiceName], *, is_orderly: bool, now: float
    ) -> None:
        self._shown[ALL_NAMES] = (min(found).name, None) if found else None
        if found or (is_orderly and self._names_emptied_at is None):
            self._names, self._names_emptied_at = found, None
        elif self._names and self._names_emptied_at is None:
            self._names_emptied_at = now

    def _receive_instances(
        self, name: str, found: tuple[Instance, ...], *, is_orderly: bool, now: float
    ) -> None:
        self._shown[name] = (name, found[0].node) if found else None
        for service in self._interest.services:
            if service.name != name:
                continue
            ours = [one for one in found if one.endpoint.service == service]
            self._roster.receive(
                service,
                [one.endpoint for one in ours],
                silent=[one.endpoint.id for one in ours if one.is_silent],
                is_orderly=is_orderly,
                now=now,
            )

    def age(self, now: float) -> None:
        """Look at the same answers later. Consul itself deletes what is silent for long."""
        self._roster.age(now)
        emptied_at = self._names_emptied_at
        if emptied_at is not None and now - emptied_at >= EMPTY_GRACE_SECONDS:
            self._names, self._names_emptied_at = frozenset(), None
        self._announce()

    def _announce(self) -> None:
        if self._roster.changes_with_time or self._names_emptied_at is not None:
            self.ages.set()
        else:
            self.ages.clear()
        self.changed.set(self.changed.value + 1)
