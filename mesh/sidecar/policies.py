"""Following head: from the newest revision's record to the policies that concern one service."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import structlog

from mesh.documents import codec
from mesh.errors import HeadWentBack, MeshError, Unavailable
from mesh.latest import Latest
from mesh.model.identity import ServiceName
from mesh.model.policy import Mesh, Policy, PolicyKey
from mesh.model.revision import Applied, Manifest, Policies
from mesh.planning import keyspace, manifest, record
from mesh.planning.enclosure import enclosed
from mesh.planning.manifest import Chunk, Part
from mesh.planning.scope import Scopes
from mesh.ports import Clock, Store
from mesh.sidecar.head import INTERVAL, HeadSource, Told
from mesh.sidecar.ratchet import Ratchet
from mesh.sidecar.retry import Backoff, Outage

# etcd's limit of operations in a transaction, less a margin; a fetch is one.
_FETCH_KEYS = 120

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Scope:
    """What one sidecar holds of a revision: its policies, and the bytes they were read from.

    `head` is None while the mesh has no revision. `objects` are canonical bytes by digest.
    """

    head: record.Head | None = None
    policies: Policies = field(default_factory=dict)
    objects: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def revision(self) -> int:
        """The revision's number; 0 is the empty mesh."""
        return self.head.revision.number if self.head else 0

    @property
    def mesh(self) -> Mesh:
        """The Mesh document, or what holds without one."""
        for applied in self.policies.values():
            if isinstance(applied.policy, Mesh):
                return applied.policy
        return Mesh(key=PolicyKey("Mesh", "default", "mesh"))


class PolicySource:
    """The policies in scope of `service`, in the cell `newest`, as head moves.

    The first revision is read at once, further ones at least 100 ms apart, the newest only. What
    a revision shares with the one before is not asked for, nor what is enclosed with head.
    `newest` is None until something is known. `remembered` is what an earlier start knew: a head
    that is older than it is refused (`sidecar.ratchet`), and it holds instead.
    """

    def __init__(
        self, store: Store, service: ServiceName, clock: Clock, remembered: Scope | None = None
    ) -> None:
        self._store = store
        self._service = service
        self._clock = clock
        self._remembered = remembered
        self._ratchet = Ratchet()
        self._ratchet.remember(remembered.head if remembered else None)
        self._parts: dict[str, Part] = {}
        self._chunks: dict[str, Chunk] = {}
        self._scopes = Scopes({})
        self._policies: dict[str, Policy] = {}
        self._objects: dict[str, bytes] = {}
        self._head = HeadSource(store, clock)
        self.newest: Latest[Scope | None] = Latest(None)
        self._reading = Outage("policies")

    @property
    def head(self) -> int:
        """The number of the newest revision that the store told of; 0: of none."""
        return self._head.number

    @property
    def is_in_touch(self) -> bool:
        """Whether the store has answered, and answers."""
        return self._head.is_in_touch

    @property
    def trouble(self) -> str | None:
        """Why `newest` may be old, while it may."""
        return self._head.trouble or self._reading.reason

    def recall(self, scope: Scope) -> None:
        """Take what was remembered, unless the store has answered already."""
        if self.newest.value is None:
            self._policies = {a.entry.digest: a.policy for a in scope.policies.values()}
            self._objects = dict(scope.objects)
            self.newest.set(scope)

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._head.run())
            tasks.create_task(self._read_newest())

    async def _read_newest(self) -> None:
        head, outage, backoff = self._head.told, self._reading, Backoff()
        version = 0
        while True:
            told = await head.after(version)
            version = head.version
            try:
                self.newest.set(await self._read(told or Told()))
            except MeshError as error:
                outage.failed(error.message, error.hint)
                if isinstance(error, HeadWentBack) and self._remembered is not None:
                    self.recall(self._remembered)
                version -= 1  # again, or at once the newer one that comes meanwhile
                await self._pause(backoff)
            else:
                outage.recovered()
                backoff.reset()
                await self._clock.sleep(INTERVAL)

    async def _pause(self, backoff: Backoff) -> None:
        version = self._head.told.version
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(backoff.next().total_seconds()):
                await self._head.told.after(version)

    async def _read(self, told: Told) -> Scope:
        head = record.parse_record(told.head) if told.head else None
        self._ratchet.check(head)
        if head is None:
            return Scope()
        pieces = enclosed(told.enclosure)
        await self._follow(head, pieces)
        entries = self._scoped()
        await self._take_objects({entry.digest for entry in entries.values()}, pieces)
        policies = {
            key: Applied(policy=self._policies[entry.digest], entry=entry)
            for key, entry in entries.items()
        }
        self._ratchet.accept(head)
        _log.debug("read a revision", revision=head.revision.number, policies=len(policies))
        return Scope(head, policies, dict(self._objects))

    async def _follow(self, head: record.Head, pieces: Mapping[str, bytes]) -> None:
        """Bring the index of the manifest to `head`, at the cost of what changed."""
        while lacking := manifest.missing(head, self._parts):
            for digest, data in (await self._pieces(keyspace.chunk, lacking, pieces)).items():
                self._parts[digest] = manifest.parse_part(digest, data)
        chunks = manifest.chunks_of(head, self._parts)
        for digest in self._chunks.keys() - chunks.keys():
            for entry in self._chunks[digest].entries:
                self._scopes.drop(entry.key)
        for digest in chunks.keys() - self._chunks.keys():
            for entry in chunks[digest].entries:
                self._scopes.put(entry)
        self._chunks = chunks
        used = manifest.used(head, self._parts)
        self._parts = {digest: part for digest, part in self._parts.items() if digest in used}

    def _scoped(self) -> Manifest:
        """The entries of the documents that concern a sidecar of the service."""
        whole = self._scopes.manifest
        return {key: whole[key] for key in sorted(self._scopes.closure(self._service))}

    async def _take_objects(self, wanted: set[str], pieces: Mapping[str, bytes]) -> None:
        lacking = wanted - self._policies.keys()
        for digest, data in (await self._pieces(keyspace.policy, lacking, pieces)).items():
            self._policies[digest] = codec.decode(data, digest)
            self._objects[digest] = data
        self._policies = {d: p for d, p in self._policies.items() if d in wanted}
        self._objects = {d: b for d, b in self._objects.items() if d in wanted}

    async def _pieces(
        self,
        key: Callable[[str], str],
        digests: Iterable[str],
        enclosed: Mapping[str, bytes],
    ) -> dict[str, bytes]:
        """What the digests name: enclosed with head, else asked for."""
        found = {digest: enclosed[digest] for digest in digests if digest in enclosed}
        return found | await self._fetch(key, (d for d in digests if d not in found))

    async def _fetch(self, key: Callable[[str], str], digests: Iterable[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        keys = {key(digest): digest for digest in digests}
        names = list(keys)
        for start in range(0, len(names), _FETCH_KEYS):
            batch = names[start : start + _FETCH_KEYS]
            entries = await self._store.fetch(batch)
            if len(entries) < len(batch):
                raise Unavailable("a revision was collected while it was read")
            found.update({keys[name]: entry.value for name, entry in entries.items()})
        return found
