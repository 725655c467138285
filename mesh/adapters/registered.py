"""Discovery over the Store itself: instances register under a lease.

An instance is two keys: its record, which stays, and `alive` under the lease, which vanishes
with it. So a deregistered instance is gone at once, and one whose lease ran out is silent: its
record is read as DEGRADED, and deleted by the first watcher that saw it silent for ten minutes.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from types import TracebackType
from typing import Self

import structlog

from mesh.errors import LeaseLost, MeshError
from mesh.latest import Latest
from mesh.model.catalog import Catalog, Endpoint, Health, is_reachable
from mesh.model.identity import ServiceName
from mesh.planning import keyspace
from mesh.planning.presence import Roster
from mesh.ports import Clock, Entry, Interest, LeaseId, Put, Store, Transaction, Watched

_LOG = structlog.get_logger(__name__)

# How often silent and doubted instances are looked at again, while there are any.
_TICK = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class _Registration:
    """What this process wrote last for an instance."""

    record: bytes
    lease: LeaseId
    ttl: timedelta


class RegisteredDiscovery:
    """`Discovery` in a store, which the caller enters and leaves.

    Enter and leave it in one task: its watches' tasks belong to it. A watch that is left early
    ends with `aclose`, and all end when the discovery is left.
    """

    def __init__(self, store: Store, *, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._tasks = asyncio.TaskGroup()
        self._running: set[asyncio.Task[None]] = set()
        self._registrations: dict[tuple[ServiceName, str], _Registration] = {}

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for task in self._running:
            task.cancel()
        # Not told of an error of the caller's block: it would come out as an ExceptionGroup.
        await self._tasks.__aexit__(None, None, None)

    async def register(self, endpoint: Endpoint, *, ttl: timedelta) -> None:
        """As `Discovery.register`. A renewal that says the same renews the lease and reads the
        two keys back; what is missing or another's is written again.
        """
        record = _encode(endpoint)
        known = self._registrations.get((endpoint.service, endpoint.id))
        if known is not None and known.ttl == ttl:
            try:
                await self._store.lease(ttl, known.lease)
            except LeaseLost:
                known = None
            else:
                if known.record == record and await self._is_written(endpoint, known):
                    return
        else:
            known = None
        lease = known.lease if known else await self._store.lease(ttl)
        written = _Registration(record, lease, ttl)
        # Known before it is written: an outcome that stays unknown is settled by the next call.
        self._registrations[endpoint.service, endpoint.id] = written
        await self._store.commit(
            Transaction(
                puts=(
                    Put(_key(endpoint, keyspace.RECORD), record),
                    Put(_key(endpoint, keyspace.ALIVE), _holder(lease), lease),
                )
            )
        )

    async def deregister(self, endpoint: Endpoint) -> None:
        """As `Discovery.deregister`: both keys in one transaction."""
        self._registrations.pop((endpoint.service, endpoint.id), None)
        keys = (_key(endpoint, keyspace.RECORD), _key(endpoint, keyspace.ALIVE))
        await self._store.commit(Transaction(deletes=keys))

    async def watch(self, interest: Interest) -> AsyncIterator[Catalog]:
        """As `Discovery.watch`: one watch of the store per service, or one of all instances
        where their names are asked for.
        """
        board = _Board(interest)
        tasks = [self._spawn(self._follow(board, prefix)) for prefix in board.prefixes()]
        tasks.append(self._spawn(self._age(board)))
        shown: Catalog | None = None
        try:
            while True:
                version = board.changed.version
                if board.is_complete and (catalog := board.catalog()) != shown:
                    shown = catalog
                    yield catalog
                await board.changed.after(version)
        finally:
            for task in tasks:
                task.cancel()

    async def _is_written(self, endpoint: Endpoint, known: _Registration) -> bool:
        record, alive = _key(endpoint, keyspace.RECORD), _key(endpoint, keyspace.ALIVE)
        found = await self._store.fetch((record, alive))
        return (
            record in found
            and alive in found
            and found[record].value == known.record
            and found[alive].value == _holder(known.lease)
        )

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = self._tasks.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _follow(self, board: "_Board", prefix: str) -> None:
        async for watched in self._store.watch(prefix):
            board.receive(prefix, watched, self._clock.monotonic())

    async def _age(self, board: "_Board") -> None:
        while True:
            await board.ages.wait()
            await self._clock.sleep(_TICK)
            for forgotten in board.age(self._clock.monotonic()):
                await self._delete(forgotten)

    async def _delete(self, forgotten: Entry) -> None:
        """Delete a record that is still the one seen and still silent."""
        alive = forgotten.key.removesuffix(keyspace.RECORD) + keyspace.ALIVE
        try:
            await self._store.commit(
                Transaction(
                    expect={forgotten.key: forgotten.version, alive: 0}, deletes=(forgotten.key,)
                )
            )
        except MeshError as error:
            # It came back, another watcher was first, or the store is away: the next look tells.
            _LOG.debug("silent instance was not deleted", key=forgotten.key, reason=error.message)
        else:
            _LOG.info("deleted an instance that was silent for long", key=forgotten.key)


class _Board:
    """What one watch knows: written by its tasks, read by its iterator."""

    def __init__(self, interest: Interest) -> None:
        self._interest = interest
        self._roster = Roster(interest.services)
        self._records: dict[ServiceName, dict[str, Entry]] = {}
        self._names: frozenset[ServiceName] = frozenset()
        self._missing = set(self.prefixes())
        self.changed = Latest(0)
        self.ages = asyncio.Event()

    def prefixes(self) -> tuple[str, ...]:
        """What to watch in the store."""
        if self._interest.names:
            return (keyspace.INSTANCES,)
        return tuple(keyspace.instances(service) for service in sorted(self._interest.services))

    @property
    def is_complete(self) -> bool:
        """Whether each watched prefix has been heard of."""
        return not self._missing

    def catalog(self) -> Catalog:
        """The catalog as of now."""
        return self._roster.catalog(self._names)

    def receive(self, prefix: str, watched: Watched, now: float) -> None:
        """Take in what the store says under a prefix."""
        self._missing.discard(prefix)
        if watched.lost is not None:
            self._roster.lose(prefix, watched.lost)
        else:
            # After an outage the store may be another: what vanished meanwhile did so unseen.
            is_orderly = not self._roster.is_lost(prefix)
            self._roster.heal(prefix)
            self._take(prefix, watched.entries, is_orderly=is_orderly, now=now)
        self._announce()

    def _take(
        self, prefix: str, entries: Mapping[str, Entry], *, is_orderly: bool, now: float
    ) -> None:
        parts = _by_service(entries)
        if self._interest.names:
            self._names = frozenset(parts)
        for service in self._interest.services:
            if not keyspace.instances(service).startswith(prefix):
                continue
            part = parts.get(service, {})
            self._records[service] = {
                endpoint.id: entries[key] for key, (endpoint, _) in part.items()
            }
            self._roster.receive(
                service,
                [endpoint for endpoint, _ in part.values()],
                silent=[endpoint.id for endpoint, is_alive in part.values() if not is_alive],
                is_orderly=is_orderly,
                now=now,
            )

    def age(self, now: float) -> list[Entry]:
        """Look at the same answers later; the records that are to be deleted."""
        forgotten = self._roster.age(now)
        self._announce()
        return [self._records[endpoint.service][endpoint.id] for endpoint in forgotten]

    def _announce(self) -> None:
        if self._roster.changes_with_time:
            self.ages.set()
        else:
            self.ages.clear()
        self.changed.set(self.changed.value + 1)


# --- records --------------------------------------------------------------------------------


def _key(endpoint: Endpoint, part: str) -> str:
    return keyspace.instance(endpoint.service, endpoint.id, part)


def _holder(lease: LeaseId) -> bytes:
    """Whose `alive` it is: two processes with one id see each other."""
    return str(lease).encode()


def _encode(endpoint: Endpoint) -> bytes:
    """What the key does not say, as JSON with sorted keys."""
    document = {
        "address": endpoint.address,
        "port": endpoint.port,
        "meta": dict(endpoint.meta),
        "tags": sorted(endpoint.tags),
        "datacenter": endpoint.datacenter,
        "is_healthy": endpoint.health is not Health.UNHEALTHY,
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _decode(service: ServiceName, id: str, value: bytes) -> Endpoint:
    """The endpoint of a record; ValueError, KeyError or TypeError for anything else."""
    document = json.loads(value)
    address, port = str(document["address"]), int(document["port"])
    if not is_reachable(address, port):
        raise ValueError(f"{address}:{port} is no IP address and port")
    return Endpoint(
        id=id,
        service=service,
        address=address,
        port=port,
        meta={str(name): str(text) for name, text in document["meta"].items()},
        tags=frozenset(map(str, document["tags"])),
        datacenter=document["datacenter"],
        health=Health.HEALTHY if document["is_healthy"] else Health.UNHEALTHY,
    )


def _by_service(
    entries: Mapping[str, Entry],
) -> dict[ServiceName, dict[str, tuple[Endpoint, bool]]]:
    """Each service's readable records: by key, the endpoint and whether it is alive."""
    parts: dict[ServiceName, dict[str, tuple[Endpoint, bool]]] = {}
    for key, entry in entries.items():
        endpoint = _endpoint(key, entry.value)
        if endpoint is None:
            continue
        is_alive = _key(endpoint, keyspace.ALIVE) in entries
        if not is_alive and endpoint.health is Health.HEALTHY:
            endpoint = replace(endpoint, health=Health.DEGRADED)
        parts.setdefault(endpoint.service, {})[key] = (endpoint, is_alive)
    return parts


def _endpoint(key: str, value: bytes) -> Endpoint | None:
    """The endpoint of a readable record, as if it were alive; None for any other key."""
    place = keyspace.parse_instance(key)
    if place is None or place[2] != keyspace.RECORD:
        return None
    try:
        return _decode(place[0], place[1], value)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        _LOG.warning("an instance's record is unreadable", key=key, reason=str(error))
        return None
