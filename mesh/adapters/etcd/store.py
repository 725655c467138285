"""The `Store` of many hosts: transactions and leases of etcd v3, followers for its watches."""

import asyncio
import math
import re
from collections.abc import AsyncGenerator, Collection
from datetime import timedelta
from types import TracebackType
from typing import Self

import grpc.aio
from aetcd.rpc import rpc_pb2 as pb

from mesh.adapters.etcd.follower import Follower
from mesh.adapters.etcd.members import METADATA, Compacted, Member, Members
from mesh.adapters.etcd.ranges import SCAN_TRIES, entry_of, scan
from mesh.adapters.etcd.settings import EtcdSettings
from mesh.adapters.etcd.stream import Streams
from mesh.errors import Conflict, LeaseLost, Unavailable
from mesh.ports import MAX_OPERATIONS, Clock, Entry, LeaseId, Transaction, Watched

# etcd's own lower bound depends on its election time-out; with less it answers what it gave.
MIN_TTL_SECONDS = 1
# Below these a watch may lose events after a compaction, and 3.5.0-3.5.5 may lose data.
SOUND = {(3, 4): 23, (3, 5): 13}


def is_sound(version: str) -> bool:
    """Whether this etcd version is free of known faults: 3.4.23 and later, 3.5.13 and later."""
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    if found is None:
        return False
    major, minor, patch = (int(part) for part in found.groups())
    if (major, minor) in SOUND:
        return patch >= SOUND[major, minor]
    return (major, minor) > max(SOUND)


class EtcdStore:
    """`Store` below a prefix of an etcd cluster, 3.4 or later, for any number of hosts.

    Reads are linearizable and repeated on other members until the time-out; commits are sent
    once. A lease's `ttl` is rounded up to seconds, etcd may raise it to its own minimum, and a
    renewal gives what was granted. A watch reports `lost` when the first try to mend it failed
    or etcd was silent for 8 s.

    End a watch that is left early with `contextlib.aclosing`; leaving the store ends them all.
    """

    def __init__(self, settings: EtcdSettings, *, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._base = settings.base
        self._tasks = asyncio.TaskGroup()
        self._followers: set[asyncio.Task[None]] = set()
        self._entered: Members | None = None
        self._streams: Streams  # made on entering

    async def __aenter__(self) -> Self:
        self._entered = Members(self._settings, self._clock)
        try:
            await self.fetch(["head"])  # linearizable: proves the quorum, TLS and the rights
            await self._entered.check()
        except BaseException:
            await self._entered.close()
            raise
        self._streams = Streams(self._entered, self._tasks)
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for task in self._followers:
            task.cancel()
        try:
            await self._tasks.__aexit__(None, None, None)
        finally:
            await self._members.close()

    @property
    def _members(self) -> Members:
        if self._entered is None:
            raise RuntimeError("an EtcdStore is used inside `async with`")
        return self._entered

    async def fetch(self, keys: Collection[str]) -> dict[str, Entry]:
        """As `Store.fetch`."""
        for _ in range(SCAN_TRIES):
            try:
                return await self._fetch(list(keys))
            except Compacted:
                continue
        raise Unavailable("etcd compacts faster than the store can be read")

    async def scan(self, prefix: str, *, keys_only: bool = False) -> dict[str, Entry]:
        """As `Store.scan`."""
        entries, _ = await scan(self._members, self._base, prefix, keys_only=keys_only)
        return entries

    async def commit(self, transaction: Transaction) -> None:
        """As `Store.commit`."""
        transaction.check()
        request = self._transaction(transaction)

        async def send(member: Member, seconds: float) -> pb.TxnResponse:
            return await member.kv.Txn(request, timeout=seconds, metadata=METADATA)

        response = await self._members.once(send)
        if response.succeeded:
            return
        found = zip(transaction.expect, response.responses, strict=True)
        versions = {
            key: pairs.response_range.kvs[0].mod_revision if pairs.response_range.kvs else 0
            for key, pairs in found
        }
        raise Conflict(_mismatch(transaction, versions))

    async def watch(self, prefix: str) -> AsyncGenerator[Watched, None]:
        """As `Store.watch`."""
        follower = Follower(self._members, self._streams, self._base, prefix)
        task = self._tasks.create_task(follower.run())
        self._followers.add(task)
        task.add_done_callback(self._followers.discard)
        try:
            async for watched in follower.cell.changes():
                if watched is not None:
                    yield watched
                elif follower.is_over:
                    return
        finally:
            task.cancel()

    async def lease(self, ttl: timedelta, renew: LeaseId | None = None) -> LeaseId:
        """As `Store.lease`. Repeated freely: a lease granted unheard of expires by itself."""
        if renew is not None:
            await self._renew(renew)
            return renew
        request = pb.LeaseGrantRequest(TTL=max(MIN_TTL_SECONDS, math.ceil(ttl.total_seconds())))

        async def send(member: Member, seconds: float) -> pb.LeaseGrantResponse:
            return await member.lease.LeaseGrant(request, timeout=seconds, metadata=METADATA)

        return LeaseId((await self._members.repeat(send)).ID)

    async def version(self) -> str:
        """The version of the member in use, such as "3.5.13"; see `is_sound`."""

        async def send(member: Member, seconds: float) -> pb.StatusResponse:
            return await member.maintenance.Status(pb.StatusRequest(), timeout=seconds)

        return str((await self._members.repeat(send)).version)

    async def _fetch(self, keys: list[str]) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        revision = 0
        for start in range(0, len(keys), MAX_OPERATIONS):
            request = pb.TxnRequest(
                success=[
                    pb.RequestOp(
                        request_range=pb.RangeRequest(
                            key=self._base + key.encode(), revision=revision
                        )
                    )
                    for key in keys[start : start + MAX_OPERATIONS]
                ]
            )

            async def send(
                member: Member, seconds: float, request: pb.TxnRequest = request
            ) -> pb.TxnResponse:
                return await member.kv.Txn(request, timeout=seconds, metadata=METADATA)

            response = await self._members.repeat(send)
            revision = revision or response.header.revision
            pairs = (pair for part in response.responses for pair in part.response_range.kvs)
            found = (entry_of(self._base, pair) for pair in pairs)
            entries.update((entry.key, entry) for entry in found)
        return entries

    def _transaction(self, transaction: Transaction) -> pb.TxnRequest:
        """Etcd's form: a key that is absent compares as mod revision 0; a failed one reads the
        keys, for the message.
        """
        expect = {self._base + key.encode(): v for key, v in transaction.expect.items()}
        compare = [
            pb.Compare(
                key=key, target=pb.Compare.MOD, result=pb.Compare.EQUAL, mod_revision=version
            )
            for key, version in expect.items()
        ]
        puts = [
            pb.RequestOp(
                request_put=pb.PutRequest(
                    key=self._base + put.key.encode(), value=put.value, lease=put.lease or 0
                )
            )
            for put in transaction.puts
        ]
        deletes = [
            pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=self._base + key.encode()))
            for key in transaction.deletes
        ]
        reads = [
            pb.RequestOp(request_range=pb.RangeRequest(key=key, keys_only=True)) for key in expect
        ]
        return pb.TxnRequest(compare=compare, success=[*puts, *deletes], failure=reads)

    async def _renew(self, lease: LeaseId) -> None:
        async def requests() -> AsyncGenerator[pb.LeaseKeepAliveRequest, None]:
            yield pb.LeaseKeepAliveRequest(ID=lease)

        async def send(member: Member, seconds: float) -> int:
            call = member.lease.LeaseKeepAlive(requests(), timeout=seconds, metadata=METADATA)
            try:
                response = await call.read()
            finally:
                call.cancel()
            if response is grpc.aio.EOF:
                raise Unavailable(f"etcd at {member.endpoint} did not answer a renewal")
            return int(response.TTL)

        # A dead lease is no error to etcd: it has no time left.
        if await self._members.repeat(send) <= 0:
            raise LeaseLost(f"lease {lease} has run out")


def _mismatch(transaction: Transaction, versions: dict[str, int]) -> str:
    for key, expected in transaction.expect.items():
        found = versions[key]
        if found == expected:
            continue
        if not expected:
            return f'"{key}" exists already, at version {found}'
        if not found:
            return f'"{key}" does not exist; version {expected} was expected'
        return f'"{key}" is at version {found}; version {expected} was expected'
    return "an expectation did not hold"
