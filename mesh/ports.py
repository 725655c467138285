"""What the shells need of the outside world. Adapters implement these; nothing else does I/O.

Errors are those of `mesh.errors`; every call has a deadline of its own inside the adapter.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import TracebackType
from typing import NewType, Protocol, Self

from mesh.errors import InputError
from mesh.metrics.statistics import Statistics
from mesh.model.catalog import Catalog, Endpoint
from mesh.model.identity import SVID, Identity, ServiceName, TrustBundle
from mesh.model.snapshot import Rejection, Snapshot
from mesh.model.source import Blob, GitCommit

LeaseId = NewType("LeaseId", int)

MAX_OPERATIONS = 120
MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """A key's value. `version` changes with every write of the key and is never 0."""

    key: str
    value: bytes
    version: int


@dataclass(frozen=True, slots=True)
class Put:
    """Write a key; under a lease it vanishes when the lease expires."""

    key: str
    value: bytes
    lease: LeaseId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """All or nothing. `expect` maps keys to the version they must have; 0 is "absent".

    At most `MAX_OPERATIONS` and `MAX_BYTES` together (etcd's defaults, less a margin); a larger
    one is refused with InputError by every adapter, so that callers split the same way
    everywhere.
    """

    expect: Mapping[str, int] = field(default_factory=dict)
    puts: tuple[Put, ...] = ()
    deletes: tuple[str, ...] = ()

    def check(self) -> None:
        """What every adapter does first.

        Operations are puts and deletes; expectations count apart, with the same limit (etcd
        counts each section of a transaction). Bytes are keys, in UTF-8, and values.

        Raises:
            InputError: too large, an empty key, or one key written twice.
        """
        written = [put.key for put in self.puts] + list(self.deletes)
        operations = max(len(written), len(self.expect))
        if operations > MAX_OPERATIONS:
            raise InputError(
                f"a transaction of {operations} operations is over the limit of {MAX_OPERATIONS}",
                hint="split it",
            )
        size_bytes = sum(len(key.encode()) for key in (*written, *self.expect))
        size_bytes += sum(len(put.value) for put in self.puts)
        if size_bytes > MAX_BYTES:
            raise InputError(
                f"a transaction of {size_bytes} bytes is over the limit of {MAX_BYTES}",
                hint="split it",
            )
        if len(set(written)) < len(written):
            raise InputError("a transaction may write each key once")
        if not all((*written, *self.expect)):
            raise InputError("a key may not be empty")


@dataclass(frozen=True, slots=True)
class Watched:
    """All entries under a prefix at one moment. `lost` is why the store is out of reach, while
    it is; the entries are then the last known.
    """

    entries: Mapping[str, Entry]
    lost: str | None = None


class Store(Protocol):
    """A small transactional key-value store with leases and watches (etcd's model).

    Keys are text below the store's own prefix, without a leading slash (`planning.keyspace`).
    An async context manager: entering connects and may raise Unavailable or Denied.
    """

    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    async def fetch(self, keys: Collection[str]) -> dict[str, Entry]:
        """The entries of those keys that exist, at one moment, linearizable."""
        ...

    async def scan(self, prefix: str, *, keys_only: bool = False) -> dict[str, Entry]:
        """Every entry whose key starts with `prefix`, in key order, at one moment.

        With `keys_only` the values are empty.
        """
        ...

    async def commit(self, transaction: Transaction) -> None:
        """Apply all of it or nothing.

        Raises:
            Conflict: an expectation does not hold; nothing was written.
            OutcomeUnknown: no answer in time: it may have been applied.
            LeaseLost: a named lease does not exist any more.
        """
        ...

    def watch(self, prefix: str) -> AsyncIterator[Watched]:
        """The state under `prefix` now, then again after each change, the newest only.

        Changes may be coalesced, never reordered or lost at the end. Outages do not end the
        iteration: they are yielded as `lost` (once) and healed with a fresh state.
        """
        ...

    async def lease(self, ttl: timedelta, renew: LeaseId | None = None) -> LeaseId:
        """Grant a lease, or renew one for another `ttl`. Keys die with it, by time alone.

        Raises:
            LeaseLost: the lease to renew has expired.
        """
        ...


@dataclass(frozen=True, slots=True)
class Interest:
    """Whose instances a watcher wants; `names`: also every registered service's name."""

    services: frozenset[ServiceName] = frozenset()
    names: bool = False


class Discovery(Protocol):
    """Where instances are. An async context manager like Store."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    async def register(self, endpoint: Endpoint, *, ttl: timedelta) -> None:
        """Announce an instance, or renew it: call again well within each `ttl`.

        A renewal that says the same is cheap. `endpoint.health` UNHEALTHY keeps it listed and
        out of use. Idempotent: heals a registration that was lost.
        """
        ...

    async def deregister(self, endpoint: Endpoint) -> None:
        """Take an instance out at once; unknown ones are fine."""
        ...

    def watch(self, interest: Interest) -> AsyncIterator[Catalog]:
        """The catalog now, then after each change, newest only; outages as `Catalog.stale`."""
        ...


class DataPlane(Protocol):
    """One Envoy process: started or adopted, watched, restarted, drained."""

    async def run(self, leave: Callable[[], Awaitable[object]]) -> None:
        """Adopt the running Envoy of this sidecar, else start one; restart it with backoff when
        it dies. Runs until cancelled; cancelling leaves the Envoy running.

        One that serves and cannot be adopted (another version, another bootstrap) is drained
        first, and before that `leave` takes callers away from it.
        """
        ...

    async def wait_ready(self) -> None:
        """Return once Envoy answers ready: its first configuration is in force."""
        ...

    async def is_ready(self) -> bool:
        """Whether Envoy answers ready now."""
        ...

    @property
    def restarts(self) -> int:
        """How often `run` started it again after it had ended by itself."""
        ...

    async def statistics(self) -> Statistics:
        """What it has counted since it was started.

        Raises:
            Unavailable: it does not answer.
        """
        ...

    async def drain(self, grace: timedelta) -> None:
        """Finish open requests within `grace`, refuse new ones, then end the process."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """How far Envoy is: everything of `revision` and `generation` that was not rejected is
    in force. `generation` counts `publish` calls, `nacks` every refusal since the start.
    """

    generation: int = 0
    revision: int = 0
    rejections: tuple[Rejection, ...] = ()
    nacks: int = 0


class ConfigurationServer(Protocol):
    """The xDS side of one Envoy (delta ADS on a Unix socket)."""

    async def run(self) -> None:
        """Serve until cancelled."""
        ...

    def publish(self, snapshot: Snapshot) -> int:
        """Make `snapshot` what Envoy shall run; returns its generation. Never blocks."""
        ...

    def offer_again(self, refused: Iterable[Rejection]) -> None:
        """Offer what these are of once more; what came of it is acknowledged anew."""
        ...

    def acknowledgements(self) -> AsyncIterator[Acknowledged]:
        """The newest acknowledgement now, then after each change, newest only."""
        ...


class Issuer(Protocol):
    """Who signs: the local CA's files, or the CA service."""

    async def issue(
        self,
        identity: Identity,
        csr_pem: bytes,
        lifetime: timedelta,
        current: SVID | None = None,
    ) -> bytes:
        """The certificate chain (PEM, leaf first, no root) for a CSR made by the caller.

        The private key never leaves the caller. `current` is what proves that the caller is
        `identity` already, where it has one. Ask again with the same request after a failure:
        the answer may have been lost.

        Raises:
            Unavailable: nobody answers; try again.
            Denied: the issuer wants another proof; the message and hint say which.
            CertificateRefused: the request breaks the profile.
        """
        ...

    async def bundle(self) -> TrustBundle:
        """The trust bundle as of now."""
        ...


class Repository(Protocol):
    """One branch of a git repository. An async context manager: entering makes its cache ready
    and keeps others out of it.
    """

    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    async def newest(self) -> GitCommit:
        """The branch's newest commit, asked of the repository now.

        Raises:
            NotFound: there is no such branch.
            Unavailable: the repository does not answer, or not in time.
            Denied: it wants other credentials.
            RefusedCommit: the commit is too large to fetch.
        """
        ...

    async def verify(self, commit: GitCommit) -> None:
        """Return if the commit carries a good signature of an allowed signer.

        Raises:
            RefusedCommit: it does not.
        """
        ...

    async def blobs(self, commit: GitCommit, path: str) -> tuple[Blob, ...]:
        """What stands below `path` ("" is the root), by name; the path itself if it is no folder.

        Raises:
            RefusedCommit: there is more than a set of policies may have.
        """
        ...

    async def read(self, blobs: Collection[Blob]) -> dict[str, bytes]:
        """The content of files, by hash. One larger than a set's file may be comes cut off right
        behind that limit.

        Raises:
            RefusedCommit: together they are more than a set of policies may have.
        """
        ...


class Clock(Protocol):
    """Time. `now` is aware UTC; `monotonic` is seconds for measuring spans."""

    def now(self) -> datetime: ...
    def monotonic(self) -> float: ...
    async def sleep(self, duration: timedelta) -> None: ...


__all__ = [
    "MAX_BYTES",
    "MAX_OPERATIONS",
    "SVID",
    "Acknowledged",
    "Clock",
    "ConfigurationServer",
    "DataPlane",
    "Discovery",
    "Entry",
    "Interest",
    "Issuer",
    "LeaseId",
    "Put",
    "Repository",
    "Store",
    "Transaction",
    "Watched",
]
