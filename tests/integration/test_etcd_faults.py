"""The etcd store while members die, freeze, fill up, compact, or lose their quorum."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path

import pytest

from mesh.adapters.clock import SystemClock
from mesh.adapters.etcd import EtcdSettings, EtcdStore, is_sound
from mesh.adapters.etcd.stream import SILENCE_SECONDS
from mesh.errors import (
    InputError,
    OutcomeUnknown,
    OutOfSpace,
    OutsideError,
    Unavailable,
    UsageError,
)
from mesh.ports import Put, Transaction, Watched
from tests.support.etcd import etcdctl, lost, store_of, until
from tests.support.servers import Server, etcd, etcd_cluster, free_ports

PATIENCE_SECONDS = 30.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with etcd(tmp_path) as server:
        yield server


@pytest.fixture
def members(tmp_path: Path) -> Iterator[list[Server]]:
    with etcd_cluster(tmp_path) as members:
        yield members


def put(key: str, value: str) -> Transaction:
    return Transaction(puts=(Put(key, value.encode()),))


async def commit_somehow(store: EtcdStore, key: str, value: str) -> None:
    """Commit, and settle an unknown outcome by reading, as callers do."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                await store.commit(put(key, value))
            except OutsideError:
                continue
            return


async def test_the_version_is_told_and_sound(server: Server) -> None:
    async with store_of(server) as store:
        version = await store.version()
    assert version.count(".") == 2
    assert is_sound(version), version


async def test_nobody_listening_is_unavailable_in_time_and_says_where() -> None:
    (port,) = free_ports(1)
    settings = EtcdSettings(endpoints=(f"127.0.0.1:{port}",), timeout=timedelta(seconds=1))
    loop = asyncio.get_running_loop()
    start = loop.time()
    with pytest.raises(Unavailable, match=f"no etcd at 127.0.0.1:{port}: nobody listens there"):
        await EtcdStore(settings, clock=SystemClock()).__aenter__()
    assert loop.time() - start < 2


async def test_a_name_without_an_address_is_unavailable_and_says_so() -> None:
    settings = EtcdSettings(endpoints=("no.such.host.invalid:2379",), timeout=timedelta(seconds=1))
    with pytest.raises(Unavailable, match=r"no address for etcd at no\.such\.host\.invalid:2379"):
        await EtcdStore(settings, clock=SystemClock()).__aenter__()


async def test_members_of_two_clusters_are_refused(server: Server, tmp_path: Path) -> None:
    (nobody,) = free_ports(1)
    folder = tmp_path / "other"
    folder.mkdir()
    with etcd(folder) as other:
        named = (server.endpoint, f"127.0.0.1:{nobody}", other.endpoint)
        settings = EtcdSettings(endpoints=named)
        with pytest.raises(UsageError, match=r"are of different clusters") as refused:
            await EtcdStore(settings, clock=SystemClock()).__aenter__()
    assert server.endpoint in refused.value.message
    assert other.endpoint in refused.value.message


async def test_a_member_that_is_down_is_no_other_cluster(members: list[Server]) -> None:
    members[1].kill()
    settings = EtcdSettings(endpoints=tuple(member.endpoint for member in members))
    async with EtcdStore(settings, clock=SystemClock()) as store:
        assert await store.scan("") == {}


async def test_a_crash_and_restart_loses_nothing(server: Server) -> None:
    async with store_of(server) as store, aclosing(store.watch("")) as states:
        await store.commit(put("a", "1"))
        await until(states, a="1")
        server.kill()
        state = await lost(states)
        assert server.endpoint in (state.lost or "")
        assert [entry.value for entry in state.entries.values()] == [b"1"]
        server.start()
        await commit_somehow(store, "a", "2")
        await until(states, a="2")


async def test_an_end_in_order_is_noticed_too(server: Server) -> None:
    async with store_of(server) as store, aclosing(store.watch("")) as states:
        await until(states)
        server.stop()
        await lost(states)
        server.start()
        server.wait_ready()
        await until(states)


async def test_a_frozen_etcd_is_lost_within_ten_seconds_and_heals(server: Server) -> None:
    loop = asyncio.get_running_loop()
    async with store_of(server, timeout=1.0) as store, aclosing(store.watch("")) as states:
        await until(states)
        start = loop.time()
        server.signal(signal.SIGSTOP)
        with pytest.raises(OutcomeUnknown, match="did not say whether it committed"):
            await store.commit(put("a", "1"))
        state = await lost(states)
        assert loop.time() - start < 10
        assert server.endpoint in (state.lost or "")
        with pytest.raises(Unavailable, match=server.endpoint):
            await store.fetch(["a"])
        server.signal(signal.SIGCONT)
        await commit_somehow(store, "a", "2")
        await until(states, a="2")


async def test_a_quiet_store_is_not_taken_for_a_lost_one(server: Server) -> None:
    """By none of its watches: the answers to the heartbeat are for all."""
    async with store_of(server) as store:
        await store.commit(put("a", "1"))
        seen: list[Watched] = []

        async def follow(prefix: str) -> None:
            async with aclosing(store.watch(prefix)) as states:
                async for state in states:
                    seen.append(state)

        async def follow_all() -> None:
            async with asyncio.timeout(SILENCE_SECONDS + 2), asyncio.TaskGroup() as group:
                for prefix in ("", "a", "b"):
                    group.create_task(follow(prefix))

        with pytest.raises(TimeoutError):
            await follow_all()
    assert [state.lost for state in seen] == [None] * 3


async def test_a_store_that_was_wiped_is_read_anew(server: Server, tmp_path: Path) -> None:
    async with store_of(server) as store, aclosing(store.watch("")) as states:
        for n in range(20):
            await store.commit(put("old", str(n)))
        await until(states, old="19")
        server.kill()
        (tmp_path / "m0").rename(tmp_path / "wiped")
        server.start()
        server.wait_ready()
        await until(states)
        await commit_somehow(store, "new", "1")
        await until(states, new="1")


async def test_compaction_behind_a_frozen_client_is_survived(server: Server) -> None:
    async with store_of(server) as store, aclosing(store.watch("")) as states:
        await store.commit(put("a", "0"))
        await until(states, a="0")
        for n in range(50):
            await store.commit(put("a", str(n)))
        revision = (await store.fetch(["a"]))["a"].version
        etcdctl(server, "compact", str(revision))
        server.kill()
        server.start()
        await commit_somehow(store, "b", "1")
        await until(states, a="49", b="1")


async def test_without_space_writers_are_told_and_readers_go_on(tmp_path: Path) -> None:
    async def fill(store: EtcdStore) -> None:
        for n in range(300):  # the server looks at its size only ten times a second
            await store.commit(Transaction(puts=(Put(f"full/{n}", bytes(900_000)),)))

    with etcd(tmp_path, extra=[f"--quota-backend-bytes={8 << 20}"]) as server:
        async with store_of(server) as store, aclosing(store.watch("full/")) as states:
            await store.commit(put("head", "1"))
            with pytest.raises(OutOfSpace) as refused:
                await fill(store)
            assert "out of space" in refused.value.message
            assert "alarm disarm" in refused.value.hint
            kept = await store.scan("full/")
            assert kept
            with pytest.raises(OutOfSpace):
                await store.commit(put("head", "2"))
            assert (await store.fetch(["head"]))["head"].value == b"1"
            await store.commit(Transaction(deletes=tuple(kept)))
            await until(states)


async def test_a_server_with_smaller_limits_is_named(tmp_path: Path) -> None:
    with etcd(tmp_path, extra=["--max-txn-ops=10"]) as server:
        async with store_of(server) as store:
            with pytest.raises(InputError, match="too many operations"):
                await store.commit(Transaction(puts=tuple(Put(f"k{n}", b"") for n in range(50))))


# --- Clusters -------------------------------------------------------------------------------


async def test_a_member_that_freezes_is_passed_over(members: list[Server]) -> None:
    """Whichever of them serves this client, and whichever leads, is among those frozen."""
    loop = asyncio.get_running_loop()
    async with store_of(*members) as store, aclosing(store.watch("")) as states:
        await store.commit(put("a", "1"))
        await until(states, a="1")
        for number, member in enumerate(members):
            start = loop.time()
            member.signal(signal.SIGSTOP)
            await commit_somehow(store, "a", f"frozen-{number}")
            await until(states, a=f"frozen-{number}")
            assert loop.time() - start < 15
            member.signal(signal.SIGCONT)


async def test_without_a_quorum_it_is_unavailable_and_heals(members: list[Server]) -> None:
    loop = asyncio.get_running_loop()
    async with store_of(*members, timeout=2.0) as store, aclosing(store.watch("")) as states:
        await store.commit(put("a", "1"))
        await until(states, a="1")
        for member in members[1:]:
            member.kill()
        start = loop.time()
        assert (await lost(states)).entries
        assert loop.time() - start < 10
        with pytest.raises(Unavailable, match="it has no leader"):  # not that two are dead
            await store.fetch(["a"])
        with pytest.raises(OutsideError):
            await store.commit(put("a", "2"))
        for member in members[1:]:
            member.start()
        await commit_somehow(store, "a", "3")
        await until(states, a="3")


async def test_the_only_named_member_without_its_quorum_says_that_it_has_no_leader(
    members: list[Server],
) -> None:
    for member in members[1:]:
        member.kill()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            with pytest.raises(Unavailable) as refused:
                await store_of(members[0], timeout=2.0).__aenter__()
            if "no leader" in refused.value.message:
                break
    assert members[0].endpoint in refused.value.message
    assert "more than half of the members must be up" in refused.value.hint
