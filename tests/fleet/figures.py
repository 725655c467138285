"""What is measured of a fleet, as one value per size."""

import statistics
from collections.abc import Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from time import monotonic

from mesh.adapters.etcd import EtcdSettings, EtcdStore
from mesh.operations.state import read_state
from mesh.planning import keyspace
from mesh.ports import Put, Transaction
from tests.fleet.fleet import CLOCK, Fleet, documents, pause

# Agents of one process share a core: a first start of all at once would starve each other's loops.
AT_FIRST = 5

_SENT = "etcd_network_client_grpc_sent_bytes_total"
_RECEIVED = "etcd_network_client_grpc_received_bytes_total"
_HANDLED = "grpc_server_handled_total"
_RESIDENT = "process_resident_memory_bytes"
_CPU = "process_cpu_seconds_total"


@dataclass(slots=True)
class Figures:
    """Of one size; seconds and bytes."""

    size: int
    start: float = 0.0
    last: list[float] = field(default_factory=list)
    every: list[float] = field(default_factory=list)
    commit_cpu: float = 0.0
    commit_etcd_cpu: float = 0.0
    commit_sent: float = 0.0
    commit_received: float = 0.0
    commit_calls: float = 0.0
    rest_cpu: float = 0.0
    rest_etcd_cpu: float = 0.0
    rest_calls: float = 0.0
    staleness: float = 0.0
    staleness_median: float = 0.0
    pushes: float = 0.0
    storm_rate: float = 0.0
    storm_etcd_cpu: float = 0.0
    restarts: list[float] = field(default_factory=list)
    stored: float = 0.0
    resident: float = 0.0
    agent_rss: float = 0.0
    snapshot: float = 0.0


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of them lie."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


async def begin(fleet: Fleet, figures: Figures) -> None:
    """Start the agents; what the start and each of them costs etcd's memory."""
    before = fleet.metrics()[_RESIDENT]
    began = monotonic()
    await fleet.order("start", at_once=AT_FIRST)
    await fleet.until_reported(1)
    figures.start = monotonic() - began
    await pause(2)
    figures.resident = (fleet.metrics()[_RESIDENT] - before) / fleet.size
    figures.stored = await stored_bytes(fleet)
    reports = await fleet.order("report", since=monotonic())
    figures.agent_rss = sum(one["rss_bytes"] for one in reports) / fleet.size
    figures.snapshot = max(one["size_bytes"] for one in reports)


async def stored_bytes(fleet: Fleet) -> float:
    """Keys and values of one agent."""
    entries = await fleet.store.scan(keyspace.SIDECARS)
    size = sum(len(f"mesh/{key}") + len(entry.value) for key, entry in entries.items())
    return size / fleet.size


async def at_rest(fleet: Fleet, figures: Figures, seconds: float) -> None:
    """What agents that have nothing to do cost."""
    cpu, before = await fleet.cpu_seconds(), fleet.metrics()
    await pause(seconds)
    after = fleet.metrics()
    figures.rest_cpu = (await fleet.cpu_seconds() - cpu) / seconds / fleet.size
    figures.rest_etcd_cpu = (after[_CPU] - before[_CPU]) / seconds / fleet.size
    figures.rest_calls = (after[_HANDLED] - before[_HANDLED]) / seconds / fleet.size


async def commits(fleet: Fleet, figures: Figures, count: int) -> None:
    """B10: from the commit to each agent, and to the last of them."""
    cpu, before, began = await fleet.cpu_seconds(), fleet.metrics(), monotonic()
    for _ in range(count):
        asked = monotonic()
        revision, at = await fleet.commit()
        await pause(0.7)  # nobody asks the agents while they work
        took = [moment - at for moment in await fleet.until_live(revision, asked)]
        figures.every += took
        figures.last.append(max(took))
        await pause(0.3)
    after = fleet.metrics()
    spent = monotonic() - began
    each = fleet.size * count
    figures.commit_cpu = (
        await fleet.cpu_seconds() - cpu - spent * figures.rest_cpu * fleet.size
    ) / each
    figures.commit_etcd_cpu = (after[_CPU] - before[_CPU]) / each
    figures.commit_sent = (after[_SENT] - before[_SENT]) / each
    figures.commit_received = (after[_RECEIVED] - before[_RECEIVED]) / each
    figures.commit_calls = (after[_HANDLED] - before[_HANDLED]) / each


async def storm(fleet: Fleet, figures: Figures, seconds: float, rate: float = 20.0) -> None:
    """B13: commits at that rate; the worst age of what an agent ran, and its pushes."""
    manifests = []
    for _ in range(2):
        await fleet.commit()
        manifests.append((await read_state(fleet.store)).manifest)
    await pause(2)
    before, began = fleet.metrics(), monotonic()
    made: list[tuple[int, float]] = []
    while (now := monotonic()) - began < seconds:
        made.append(await fleet.swap(manifests))
        await pause(max(0.0, 1 / rate - (monotonic() - now)))
    lasted = monotonic() - began
    await fleet.until_live(made[-1][0], began)
    found = await fleet.published(began)
    ages = [_ages(items, made) for items in found.values()]
    figures.staleness = max(map(max, ages))
    figures.staleness_median = statistics.median(each for one in ages for each in one)
    figures.pushes = max(sum(t < began + lasted for _, t in items) for items in found.values())
    figures.pushes /= lasted
    figures.storm_rate = len(made) / lasted
    figures.storm_etcd_cpu = (fleet.metrics()[_CPU] - before[_CPU]) / (monotonic() - began)


def _ages(published: list[tuple[int, float]], made: list[tuple[int, float]]) -> list[float]:
    """For each commit: how long until an agent ran it or a newer one."""
    return [next(t for r, t in published if r >= revision) - at for revision, at in made]


async def restarts(fleet: Fleet, figures: Figures, count: int) -> None:
    """B14: every agent ends without a goodbye and starts again, with a newer head."""
    for _ in range(count):
        await fleet.order("crash")
        revision, _ = await fleet.commit()
        began = monotonic()
        await fleet.order("start")
        figures.restarts.append(await fleet.until_reported(revision) - began)


async def watch_and_lease(fleet: Fleet, folder: Path, count: int = 300) -> float:
    """Bytes of etcd's memory for an agent's two watches, and its lease with a key: a store of its
    own, on a connection that gRPC shares among the channels of one process.
    """
    settings = EtcdSettings(endpoints=(fleet.etcd.endpoint,), prefix="footprint")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(EtcdStore(settings, clock=CLOCK))
        before = fleet.metrics()[_RESIDENT]
        for number in range(count):
            store = await stack.enter_async_context(EtcdStore(settings, clock=CLOCK))
            lease = await store.lease(timedelta(minutes=5))
            put = Put(f"sidecars/agent-{number}/alive", b"x" * 32, lease)
            await store.commit(Transaction(puts=(put,)))
            for key in (keyspace.HEAD, keyspace.TRUST_BUNDLE):
                states = await stack.enter_async_context(aclosing(store.watch(key)))
                await anext(states)
        return (fleet.metrics()[_RESIDENT] - before) / count


def record_bytes(size: int) -> int:
    """The size of the set of documents, for the page."""
    return len(documents(size, 10_000))
