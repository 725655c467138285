"""B6: one of twelve backends turns slow for a while: who is answered within a second.

Eleven backends answer after 167 ms (deviation 5), the twelfth after 2 s for the middle half of a
run. Requests come evenly spaced through one real sidecar, whose policy changes from run to run.
Shares are of all requests of a run; extra requests are what the backends saw beyond those.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from datetime import timedelta
from time import monotonic

import aiohttp

from mesh.adapters.clock import SystemClock
from tests.benchmarks import harness, sides

RATE = int(os.environ.get("MESH_BENCH_RATE", "200"))
SECONDS = float(os.environ.get("MESH_BENCH_SECONDS", "20"))
BACKENDS = 12
USUAL, DEVIATION, SLOW = 0.167, 0.005, 2.0
CLOCK = SystemClock()

DOCUMENTS = """
apiVersion: mesh/v1
kind: ExternalService
metadata: {{name: backends}}
spec: {{protocol: http, port: 80, endpoints: [{endpoints}]}}
---
apiVersion: mesh/v1
kind: AccessPolicy
metadata: {{name: backends}}
spec:
  targetRefs: [{{kind: ExternalService, name: backends}}]
  rules: [{{name: web, action: allow, from: [{{service: web}}]}}]
---
apiVersion: mesh/v1
kind: TrafficPolicy
metadata: {{name: backends}}
spec: {{targetRefs: [{{kind: ExternalService, name: backends}}], {spec}}}
"""
RETRY = "retry: {attempts: 1, on: [timeout], perTryTimeout: 500ms}"
POLICIES = {
    "round-robin": "loadBalancer: {algorithm: round-robin}",
    "least-request": "loadBalancer: {algorithm: least-request}",
    "latency-aware": "loadBalancer: {algorithm: latency-aware}",
    "latency-aware, retry": "loadBalancer: {algorithm: latency-aware}, " + RETRY,
}


class Backends:
    """The twelve of them: how many requests each saw, and whether the last one is slow now."""

    def __init__(self) -> None:
        self.seen: Counter[int] = Counter()
        self.is_slow = False
        self.writers: set[asyncio.StreamWriter] = set()

    async def answer(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Serve one connection."""
        self.writers.add(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                self.seen[number] += 1
                slow = self.is_slow and number == BACKENDS - 1
                seconds = SLOW if slow else random.gauss(USUAL, DEVIATION)
                await CLOCK.sleep(timedelta(seconds=seconds))
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        self.writers.discard(writer)
        writer.close()

    async def hang_up(self) -> None:
        """End every connection."""
        for each in self.writers:
            each.close()
        while self.writers:
            await CLOCK.sleep(timedelta(milliseconds=10))


@asynccontextmanager
async def serving(backends: Backends) -> AsyncIterator[list[int]]:
    """Their ports, while they serve."""
    servers = [
        await asyncio.start_server(
            lambda reader, writer, number=number: backends.answer(number, reader, writer),
            "127.0.0.1",
            0,
        )
        for number in range(BACKENDS)
    ]
    try:
        yield [server.sockets[0].getsockname()[1] for server in servers]
    finally:
        for server in servers:
            server.close()
        await backends.hang_up()


def run() -> None:
    """Print each policy's shares."""
    with harness.workspace() as folder, ExitStack() as stack:
        mesh = sides.Mesh(folder, {})
        mesh.apply(DOCUMENTS.format(endpoints="{address: 127.0.0.1, port: 1}", spec="limits: {}"))
        web = stack.enter_context(mesh.sidecar("web"))
        asyncio.run(_compare(mesh, web.outbound))


async def _compare(mesh: sides.Mesh, port: int) -> None:
    for name, spec in POLICIES.items():
        backends = Backends()
        async with serving(backends) as ports:
            endpoints = ", ".join(f"{{address: 127.0.0.1, port: {each}}}" for each in ports)
            text = DOCUMENTS.format(endpoints=endpoints, spec=spec)
            await asyncio.to_thread(mesh.apply, text)
            took = await _load(port, backends)
        good = sum(each is not None and each <= 1 for each in took)
        share = backends.seen[BACKENDS - 1] / max(backends.seen.total(), 1)
        print(
            f"  {name}: {100 * good / len(took):.2f} % of {len(took)} within 1 s, "
            f"{100 * (backends.seen.total() / len(took) - 1):.2f} % extra, "
            f"{100 * share:.1f} % went to the one that was slow",
            flush=True,
        )


async def _load(port: int, backends: Backends) -> list[float | None]:
    """How long each request took from the moment when it was due; None: no 200."""
    took: list[float | None] = []
    began = monotonic()

    async def ask(http: aiohttp.ClientSession, due: float) -> None:
        try:
            async with http.get(f"http://127.0.0.1:{port}/", headers={"host": "backends"}) as got:
                await got.read()
                took.append(monotonic() - due if got.status == 200 else None)
        except aiohttp.ClientError:
            took.append(None)

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http, asyncio.TaskGroup() as tasks:
        for number in range(int(RATE * SECONDS)):
            due = began + number / RATE
            await CLOCK.sleep(timedelta(seconds=max(0.0, due - monotonic())))
            backends.is_slow = 0.25 <= number / (RATE * SECONDS) < 0.75
            tasks.create_task(ask(http, due))
    return took
