"""Many watches of one store on real etcds: what they cost, and that each goes to the end."""

import asyncio
import signal
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import aclosing, suppress
from pathlib import Path
from random import Random, SystemRandom

import pytest

from mesh.adapters.etcd import EtcdStore
from mesh.errors import Conflict, OutsideError
from mesh.latest import Latest
from mesh.ports import Put, Transaction
from tests.support.etcd import etcdctl, store_of
from tests.support.servers import Server, etcd, etcd_cluster

PATIENCE_SECONDS = 40.0
PREFIXES = ("k0/", "k1/", "k2/", "k3/", "k")
KEYS = tuple(f"k{n}/{name}" for n in range(4) for name in "ab")
# Steps of writing while one thing happens to one member.
STEPS = 4


@pytest.fixture
def members(tmp_path: Path) -> Iterator[list[Server]]:
    with etcd_cluster(tmp_path) as members:
        yield members


# --- What they cost -------------------------------------------------------------------------


def counts(server: Server) -> tuple[int, int]:
    """The watch streams that etcd has, and the watches on them."""
    with urllib.request.urlopen(f"http://{server.endpoint}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    found = dict(line.split(" ", 1) for line in lines if line.startswith("etcd_debugging_mvcc_"))
    kinds = ("watch_stream", "watcher")
    streams, watches = (int(found[f"etcd_debugging_mvcc_{kind}_total"]) for kind in kinds)
    return streams, watches


async def until_counts(server: Server, *wanted: int) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await asyncio.to_thread(counts, server) != wanted:
            continue


async def test_the_watches_of_a_store_are_one_stream_to_etcd(tmp_path: Path) -> None:
    with etcd(tmp_path) as server:
        async with store_of(server) as store:
            async with aclosing(store.watch("a")) as a, aclosing(store.watch("b")) as b:
                await anext(a)
                await anext(b)
                async with aclosing(store.watch("c")) as c:
                    await anext(c)
                    await until_counts(server, 1, 3)
                await until_counts(server, 1, 2)
            await until_counts(server, 0, 0)
            async with aclosing(store.watch("a")) as a:
                await anext(a)
                await until_counts(server, 1, 1)


# --- Whatever happens to members -------------------------------------------------------------


async def step_up(store: EtcdStore, key: str, step: int) -> None:
    """Write a step that is larger than the one before, whatever stays unknown meanwhile."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            with suppress(OutsideError, Conflict):
                entry = (await store.fetch([key])).get(key)
                if entry is not None and int(entry.value) >= step:
                    return
                expect = {key: entry.version if entry else 0}
                put = Put(key, str(step).encode())
                await store.commit(Transaction(expect=expect, puts=(put,)))


async def write(store: EtcdStore, steps: range, begun: asyncio.Event) -> None:
    """Every key at each step; with each, a watch comes and goes."""
    for step in steps:
        for key in KEYS:
            await step_up(store, key, step)
        begun.set()
        async with aclosing(store.watch("k1/")) as passing:
            await anext(passing)


async def follow(store: EtcdStore, prefix: str, shown: Latest[int], last: int) -> None:
    """Tell the step that a watch shows of all its keys; none may go back or vanish."""
    versions: dict[str, int] = {}
    count = sum(key.startswith(prefix) for key in KEYS)
    async with aclosing(store.watch(prefix)) as states:
        async for state in states:
            found = {key: entry.version for key, entry in state.entries.items()}
            assert all(found.get(key, 0) >= version for key, version in versions.items())
            versions = found
            if state.lost is None and len(found) == count:
                shown.set(min(int(entry.value) for entry in state.entries.values()))
            if shown.value == last:
                return


async def until_shown(cells: list[Latest[int]], step: int) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        for cell in cells:
            while cell.value < step:
                await cell.after(cell.version)


def kill(member: Server) -> Callable[[], None]:
    member.kill()
    return member.start


def freeze(member: Server) -> Callable[[], None]:
    member.signal(signal.SIGSTOP)
    return lambda: member.signal(signal.SIGCONT)


def compact(member: Server) -> Callable[[], None]:
    """Everything before now."""
    said = etcdctl(member, "get", "k", "--write-out=fields")
    revision = next(line for line in said.splitlines() if "Revision" in line).rpartition(" ")[2]
    etcdctl(member, "compact", revision)
    return lambda: None


async def test_each_watch_goes_forward_to_the_end(members: list[Server]) -> None:
    """Members die, freeze and compact in any order in the middle of writes; watches of the same
    store come and go beside those that stay.
    """
    disturbances = [(act, member) for act in (kill, freeze, compact) for member in members]
    seed = SystemRandom().randrange(1 << 32)
    Random(seed).shuffle(disturbances)
    shown = [Latest(0) for _ in PREFIXES]
    last = STEPS * len(disturbances)
    async with store_of(*members) as store, asyncio.TaskGroup() as group:
        for prefix, cell in zip(PREFIXES, shown, strict=True):
            group.create_task(follow(store, prefix, cell, last), name=f"{prefix} with seed {seed}")
        for start, (act, member) in zip(range(1, last, STEPS), disturbances, strict=True):
            begun = asyncio.Event()
            writing = group.create_task(write(store, range(start, start + STEPS), begun))
            await begun.wait()
            heal = await asyncio.to_thread(act, member)
            await writing
            await until_shown(shown, start + STEPS - 1)
            heal()
            await asyncio.to_thread(member.wait_ready)
