"""B16: certificates signed through the API of the CA service, and how long a join takes.

The service is a process of its own on SQLite; clients are on the same machine and take their
share of it, so the certificates per second of the service's own CPU are shown beside the rate.
Joins are a new host's each: read the roots by the fingerprint, then join, each on a connection
of its own. Renewals are one request on an open connection that showed a certificate.
"""

import asyncio
import multiprocessing
import os
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from time import monotonic

import aiohttp

from mesh import tls
from mesh.adapters.ca_client import ServiceIssuer
from mesh.adapters.embedded import EmbeddedStore
from mesh.authority.limits import Limits, Rate
from mesh.authority.registry import Registry
from mesh.ca.request import new_key_and_csr
from mesh.model.identity import SVID
from tests.benchmarks import harness
from tests.support.authority import HOUR, WEB, client, serving, svid_of
from tests.support.revisions import CLOCK

JOINS = 100
RENEWALS = 3000
CONNECTIONS = 32
BAR_PER_SECOND = 2000
BAR_JOIN_MS = 300
_UNLIMITED = Rate(burst=1e9, per_second=1e9)


def run() -> None:
    """Print the rate of renewals, and the median and the 99th percentile of joins."""
    with harness.workspace() as folder:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        service = context.Process(target=_serve, args=(folder, theirs))
        service.start()
        try:
            asyncio.run(_measure(folder, str(ours.recv()), service))
        finally:
            ours.send("stop")
            service.join()


def _serve(folder: Path, pipe: Connection) -> None:
    asyncio.run(_service(folder, pipe))


async def _service(folder: Path, pipe: Connection) -> None:
    limits = Limits(requests=_UNLIMITED, refusals=_UNLIMITED)
    async with (
        EmbeddedStore(folder / "mesh.db", clock=CLOCK) as store,
        serving(folder / "ca", store, limits=limits) as service,
    ):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the audit log is written, not shown
        pipe.send(service.serving.url)
        await asyncio.to_thread(pipe.recv)


async def _measure(folder: Path, url: str, service: BaseProcess) -> None:
    async with EmbeddedStore(folder / "mesh.db", clock=CLOCK) as store:
        token, _ = await Registry(store, CLOCK).create(WEB.service, ttl=HOUR, uses=JOINS)
    taken: list[float] = []
    host = client(url, folder / "host", token)
    svid = await svid_of(host)
    for number in range(1, JOINS):
        before = monotonic()
        host = client(url, folder / f"host{number}", token)
        svid = await svid_of(host)
        taken.append(1000 * (monotonic() - before))
    median, p99 = harness.median(taken), harness.percentile(taken, 0.99)
    print(f"  join: {median:.1f} ms median, {p99:.1f} ms p99 (bar {BAR_JOIN_MS} ms)", flush=True)
    await _renew(url, service, svid, host)


async def _renew(url: str, service: BaseProcess, svid: SVID, host: ServiceIssuer) -> None:
    roots_pem = (await host.bundle()).roots_pem
    context = tls.client_context(roots_pem, svid.chain_pem, svid.private_key_pem)
    connector = aiohttp.TCPConnector(ssl=context, limit=CONNECTIONS)
    ask = {"csr": new_key_and_csr(WEB)[1].decode(), "lifetime_seconds": 3600}
    left = iter(range(RENEWALS))

    async def one(http: aiohttp.ClientSession) -> None:
        for _ in left:
            async with http.post("/v1/renew", json=ask) as answer:
                answer.raise_for_status()
                await answer.read()

    async with aiohttp.ClientSession(url.partition("?")[0], connector=connector) as http:
        cpu, before = harness.cpu_seconds(service.pid or 0), monotonic()
        async with asyncio.TaskGroup() as clients:
            for _ in range(CONNECTIONS):
                clients.create_task(one(http))
        seconds = monotonic() - before
        cpu = harness.cpu_seconds(service.pid or 0) - cpu
    print(
        f"  renewals: {RENEWALS / seconds:.0f}/s, {RENEWALS / cpu:.0f} per second of the service's "
        f"CPU (bar {BAR_PER_SECOND}/s)",
        flush=True,
    )
