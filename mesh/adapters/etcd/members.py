"""The members of a cluster: one lazy channel each, one of them in use; gRPC's errors as ours.

A channel per member, and not one over all addresses: each certificate is checked against its own
host's name, an agent costs etcd one connection, and an error can say whom it is about. Who fails
is passed over for the next.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from random import SystemRandom
from typing import TypeVar

import grpc
import grpc.aio
from aetcd.rpc import rpc_pb2 as pb
from aetcd.rpc import rpc_pb2_grpc as rpc

from mesh.adapters.etcd.diagnosis import diagnose, tls_context
from mesh.adapters.etcd.settings import EtcdSettings
from mesh.errors import (
    Denied,
    InputError,
    LeaseLost,
    MeshError,
    OutcomeUnknown,
    OutOfSpace,
    Unavailable,
    UsageError,
)
from mesh.ports import Clock

R = TypeVar("R")

# A frozen peer is found after 10 + 4 s; the ping's own time-out is what counts (60 s by
# default), etcd refuses pings more often than each 5 s and pings on an idle connection.
OPTIONS: list[tuple[str, int]] = [
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 4_000),
    ("grpc.http2.ping_timeout_ms", 4_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 3_000),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", 4 << 20),
    ("grpc.enable_http_proxy", 0),
]
# Without it a member that is cut off from its quorum holds calls and watches silently.
METADATA = (("hasleader", "true"),)

Code = grpc.StatusCode
READY = grpc.ChannelConnectivity.READY
_RETRIED = frozenset({Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.UNKNOWN, Code.CANCELLED})
# Part of a call's time that is kept for finding out why it failed.
_DIAGNOSIS = 0.2
_DISARM = (
    "delete what is not needed, then `etcdctl compact` a recent revision, `etcdctl defrag` each"
    " member and `etcdctl alarm disarm`; or raise --quota-backend-bytes"
)

# How long a member may take to say which cluster it is of, before it counts as away.
CHECK_SECONDS = 0.5

# etcd gives its errors no type but these texts (api/v3rpc/rpctypes/error.go), which its own
# client matches too.
_FROM_ETCD = "etcdserver: "
NO_LEADER = "etcdserver: no leader"
_TEXTS: dict[str, tuple[type[MeshError], str, str]] = {
    NO_LEADER: (Unavailable, "it has no leader", "more than half of the members must be up"),
    "etcdserver: mvcc: database space exceeded": (OutOfSpace, "it is out of space", _DISARM),
    "etcdserver: requested lease not found": (LeaseLost, "the lease has run out", ""),
    "etcdserver: request is too large": (
        InputError,
        "the transaction is too large for it",
        "raise --max-request-bytes; the default is 1.5 MiB",
    ),
    "etcdserver: too many operations in txn request": (
        InputError,
        "the transaction has too many operations for it",
        "raise --max-txn-ops; the default is 128",
    ),
    "etcdserver: user name is empty": (
        Denied,
        "it wants a user, and this client has no certificate that names one",
        "give cert and key whose common name is an etcd user",
    ),
}


class Compacted(Unavailable):
    """The revision to read at is not kept any more: read at a newer one."""


_CODES: dict[grpc.StatusCode, tuple[type[MeshError], str]] = {
    Code.PERMISSION_DENIED: (Denied, "grant the user readwrite on the store's prefix"),
    Code.UNAUTHENTICATED: (Denied, "give cert and key whose common name is an etcd user"),
    Code.OUT_OF_RANGE: (Compacted, ""),
    Code.UNIMPLEMENTED: (Unavailable, "is it etcd, version 3.4 or later?"),
}


@dataclass(frozen=True, slots=True)
class Member:
    """One member as its endpoint names it."""

    endpoint: str
    channel: grpc.aio.Channel
    kv: rpc.KVStub
    watch: rpc.WatchStub
    lease: rpc.LeaseStub
    maintenance: rpc.MaintenanceStub


class Members:
    """The members that the settings name; make one in a running loop.

    Raises:
        Denied: a TLS file cannot be used.
    """

    def __init__(self, settings: EtcdSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._random = SystemRandom()
        self._files = _seen(settings)
        self._credentials = _credentials(settings)
        self._members = [_connect(name, self._credentials) for name in settings.endpoints]
        self._random.shuffle(self._members)
        self._at = 0
        self._retired: list[grpc.aio.Channel] = []

    @property
    def current(self) -> Member:
        """The one in use."""
        return self._members[self._at]

    def pass_over(self, member: Member) -> None:
        """Use the next one, unless that was done meanwhile."""
        if member is self.current:
            self._at = (self._at + 1) % len(self._members)

    async def check(self) -> None:
        """Ask everybody at once, by connections of a moment, which cluster it belongs to: were they
        two, each failure of a member would change the mesh. Who does not answer says nothing.

        Raises:
            UsageError: the settings name members of different clusters.
        """
        if len(self._members) == 1:
            return
        async with asyncio.TaskGroup() as tasks:
            asked = {
                member.endpoint: tasks.create_task(self._cluster_of(member.endpoint))
                for member in self._members
            }
        found = {task.result(): endpoint for endpoint, task in asked.items() if task.result()}
        if len(found) > 1:
            raise UsageError(
                f"the members of etcd at {' and '.join(sorted(found.values()))} are of different "
                "clusters",
                hint="name the members of one cluster in the store's setting",
            )

    async def _cluster_of(self, endpoint: str) -> int | None:
        member = _connect(endpoint, self._credentials)
        try:
            status = await member.maintenance.Status(pb.StatusRequest(), timeout=CHECK_SECONDS)
        except grpc.aio.AioRpcError:
            return None
        finally:
            await member.channel.close()
        return int(status.header.cluster_id)

    async def close(self) -> None:
        """Close every channel."""
        for channel in (*self._retired, *(member.channel for member in self._members)):
            await channel.close()

    async def _renew(self) -> None:
        """After a failure: connect anew if the files of TLS were replaced since they were read.

        What runs on an old connection may go on there: a watch lives as long as its connection.
        """
        seen = _seen(self._settings)
        if seen == self._files:
            return
        try:
            self._credentials = _credentials(self._settings)
        except (Denied, OSError):
            return  # replaced by half; the next failure looks again
        self._files = seen
        over = [each for each in self._retired if each.get_state() is not READY]
        self._retired = [each for each in self._retired if each not in over]
        self._retired += [member.channel for member in self._members]
        self._members = [_connect(member.endpoint, self._credentials) for member in self._members]
        for channel in over:
            await channel.close()

    async def backoff(self, fails: int, cap: float = 5.0) -> None:
        """Wait at random up to 0.1 s doubled `fails` times, at most `cap` seconds."""
        seconds = self._random.uniform(0, min(cap, 0.1 * 2 ** min(fails, 10)))
        await self._clock.sleep(timedelta(seconds=seconds))

    async def repeat(self, send: Callable[[Member, float], Awaitable[R]]) -> R:
        """Do a call that may be repeated: on the next member, until the settings' time-out.

        `send` gets the member and the seconds that it may take.
        """
        loop = asyncio.get_running_loop()
        timeout = self._settings.timeout.total_seconds()
        deadline = loop.time() + timeout * (1 - _DIAGNOSIS)
        share = max(timeout / len(self._members), 1.0)
        fails = 0
        told: tuple[Member, grpc.aio.AioRpcError] | None = None
        while True:
            member = self.current
            try:
                return await send(member, min(share, max(deadline - loop.time(), 0.1)))
            except grpc.aio.AioRpcError as error:
                fails += 1
                await self._renew()
                if told is None or _weight(error) >= _weight(told[1]):
                    told = member, error
                if error.code() not in _RETRIED or loop.time() >= deadline:
                    raise await self.explain(*told) from error
            self.pass_over(member)
            await self.backoff(fails, cap=0.5)

    async def once(self, send: Callable[[Member, float], Awaitable[R]]) -> R:
        """Do a call that must not be repeated, on a member that is connected.

        Raises:
            OutcomeUnknown: it was sent, and whether it was done is open.
        """
        loop = asyncio.get_running_loop()
        timeout = self._settings.timeout.total_seconds()
        deadline = loop.time() + timeout * (1 - _DIAGNOSIS)
        member = await self._connected(deadline)
        try:
            return await send(member, max(deadline - loop.time(), 0.1))
        except grpc.aio.AioRpcError as error:
            await self._renew()
            self.pass_over(member)
            if error.code() in _RETRIED and error.details() != NO_LEADER:
                raise OutcomeUnknown(
                    f"etcd at {member.endpoint} did not say whether it committed: "
                    f"{error.code().name.lower()} {error.details()}"
                ) from error
            raise await self.explain(member, error) from error

    async def explain(self, member: Member, error: grpc.aio.AioRpcError) -> MeshError:
        """GRPC's error as ours, with the member and the reason."""
        details = error.details() or ""
        where = f"etcd at {member.endpoint}"
        if known := _TEXTS.get(details):
            return known[0](f"{where}: {known[1]}", hint=known[2])
        if kind := _CODES.get(error.code()):
            return kind[0](f"{where}: {details}", hint=kind[1])
        if details.startswith(_FROM_ETCD):
            return Unavailable(f"{where}: {details}")
        if why := await self._diagnose(member):
            return why
        if error.code() is Code.DEADLINE_EXCEEDED:
            return Unavailable(
                f"{where}: no answer in time", hint="is it frozen, or without a quorum?"
            )
        return Unavailable(
            f"{where} takes connections and serves none: {details or error.code().name.lower()}",
            hint="is it starting, or without a quorum? if it wants TLS, give cacert",
        )

    async def _diagnose(self, member: Member) -> MeshError | None:
        seconds = self._settings.timeout.total_seconds() * _DIAGNOSIS
        return await diagnose(self._settings, member.endpoint, seconds)

    async def _connected(self, deadline: float) -> Member:
        """A member whose channel is ready, so that a failure after it means "sent"."""
        loop = asyncio.get_running_loop()
        fails = 0
        while True:
            member = self.current
            try:
                async with asyncio.timeout(min(1.0, max(deadline - loop.time(), 0.1))):
                    if await _is_ready(member.channel):
                        return member
            except TimeoutError:
                pass
            await self._renew()
            if loop.time() >= deadline:
                why = await self._diagnose(member)
                raise why or Unavailable(f"etcd at {member.endpoint}: no connection in time")
            self.pass_over(member)
            fails += 1
            await self.backoff(fails, cap=0.5)


def _weight(error: grpc.aio.AioRpcError) -> int:
    """How much a failure tells: what a member says of itself more than that it cannot be reached,
    and that more than that time ran out. Nothing counts beside one that ends the tries.
    """
    if error.code() not in _RETRIED:
        return 3
    if (error.details() or "").startswith(_FROM_ETCD):
        return 2
    return int(error.code() is not Code.DEADLINE_EXCEEDED)


async def _is_ready(channel: grpc.aio.Channel) -> bool:
    """Whether a connection is there, after waiting for the one that is being made."""
    state = channel.get_state(try_to_connect=True)
    while state in {grpc.ChannelConnectivity.IDLE, grpc.ChannelConnectivity.CONNECTING}:
        await channel.wait_for_state_change(state)
        state = channel.get_state(try_to_connect=True)
    return state is READY


def _seen(settings: EtcdSettings) -> list[tuple[int, int, int] | None]:
    """What tells one file from the one that replaces it; None for one that is not there."""

    def seen(path: Path) -> tuple[int, int, int] | None:
        try:
            status = path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    return [seen(path) for path in (settings.cacert, settings.cert, settings.key) if path]


def _credentials(settings: EtcdSettings) -> grpc.ChannelCredentials | None:
    if tls_context(settings) is None:
        return None
    return grpc.ssl_channel_credentials(
        root_certificates=settings.cacert.read_bytes() if settings.cacert else None,
        private_key=settings.key.read_bytes() if settings.key else None,
        certificate_chain=settings.cert.read_bytes() if settings.cert else None,
    )


def _connect(endpoint: str, credentials: grpc.ChannelCredentials | None) -> Member:
    channel = (
        grpc.aio.secure_channel(endpoint, credentials, OPTIONS)
        if credentials
        else grpc.aio.insecure_channel(endpoint, OPTIONS)
    )
    return Member(
        endpoint,
        channel,
        rpc.KVStub(channel),
        rpc.WatchStub(channel),
        rpc.LeaseStub(channel),
        rpc.MaintenanceStub(channel),
    )
