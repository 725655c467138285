"""B16: certificates signed through the API of the CA service, and how long a join takes.

The service is a process of its own on SQLite. Clients are on the same machine and take their share
of it, so what counts is CPU: certificates per second that the service's process spends.

Beside it, in turn within one run, what nobody can do without: `cryptography` in a loop (check a
request, sign the same profile), a bare aiohttp server with the same mutual TLS which answers as
many bytes, and, the floor, that server with that loop's body in its handler. Renewals are measured
on connections that are kept, and each on a new one, as a sidecar makes it every few hours: OpenSSL
verifies its chain there.

Joins are a new host's each: read the roots by the fingerprint, then join, each on a connection of
its own, with a use that is on the disk before the certificate leaves.
"""

import asyncio
import multiprocessing
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from time import monotonic, process_time
from typing import Any

import aiohttp
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from mesh import log, tls
from mesh.adapters.embedded import EmbeddedStore
from mesh.adapters.issuer import LocalIssuer
from mesh.authority.limits import Limits, Rate
from mesh.authority.registry import Registry
from mesh.ca import parts, rotation
from mesh.ca.request import new_key_and_csr, server_key_and_csr
from mesh.model.identity import SVID
from tests.benchmarks import harness
from tests.support.authority import HOST, HOUR, WEB, client, serving, svid_of
from tests.support.certificates import material
from tests.support.revisions import CLOCK

JOINS = 100
ROUNDS = 5
KEPT, FRESH = 1000, 200  # renewals a round
CONNECTIONS = 16
BAR_PER_SECOND = 2000
BAR_JOIN_MS = 300
ANSWER_BYTES = 2600
_UNLIMITED = Rate(burst=1e9, per_second=1e9)


def run() -> None:
    """Print times of joins, and the CPU of renewals beside that of their floor."""
    with harness.workspace() as folder:
        context = multiprocessing.get_context("spawn")
        servers = []
        for serve in (_service, _bare):
            ours, theirs = context.Pipe()
            process = context.Process(target=_in_process, args=(serve, folder, theirs))
            process.start()
            servers.append((process, ours, str(ours.recv())))
        try:
            (service, _, url), (bare, _, bare_url) = servers
            svid, roots_pem = asyncio.run(_join(folder, url))
            sides = {
                "bare aiohttp": (bare_url + "/v1/echo", bare.pid or 0),
                "the floor": (bare_url + "/v1/renew", bare.pid or 0),
                "ours": (url.partition("?")[0] + "/v1/renew", service.pid or 0),
            }
            _report(_Renewals(svid, roots_pem), sides)
        finally:
            for process, ours, _ in servers:
                ours.send("stop")
                process.join()


# --- the servers ------------------------------------------------------------------------------


def _in_process(serve: Callable[[Path], Any], folder: Path, pipe: Connection) -> None:
    """A server in a process of its own: its URL goes to the pipe, anything from there ends it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the audit log is written, not shown
    log.configure("info")

    async def work() -> None:
        async with serve(folder) as url:
            pipe.send(url)
            await asyncio.to_thread(pipe.recv)

    asyncio.run(work())


@asynccontextmanager
async def _service(folder: Path) -> AsyncIterator[str]:
    limits = Limits(requests=_UNLIMITED, refusals=_UNLIMITED)
    async with (
        EmbeddedStore(folder / "mesh.db", clock=CLOCK) as store,
        serving(folder / "ca", store, limits=limits) as service,
    ):
        yield service.serving.url


@asynccontextmanager
async def _bare(folder: Path) -> AsyncIterator[str]:
    """A bare server with a certificate of the same authority."""
    issuer = LocalIssuer(folder / "ca", clock=CLOCK)
    key_pem, csr_pem = server_key_and_csr()
    chain_pem = await issuer.issue_server([HOST], csr_pem)
    context = tls.server_context(chain_pem, key_pem, (await issuer.bundle()).roots_pem)

    sign = _signing()

    async def answer(request: web.Request) -> web.Response:
        content = await request.json()
        if request.path == "/v1/renew":
            sign(content["csr"].encode())
        return web.Response(body=b"x" * ANSWER_BYTES, content_type="application/json")

    application = web.Application()
    application.router.add_post("/v1/{what}", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    (port,) = harness.free_ports(1)
    await web.TCPSite(runner, HOST, port, ssl_context=context).start()
    yield f"https://{HOST}:{port}"
    await runner.cleanup()


# --- what is measured -------------------------------------------------------------------------


async def _join(folder: Path, url: str) -> tuple[SVID, bytes]:
    async with EmbeddedStore(folder / "mesh.db", clock=CLOCK) as store:
        token, _ = await Registry(store, CLOCK).create(WEB.service, ttl=HOUR, uses=JOINS)
    taken: list[float] = []
    for number in range(JOINS):
        before = monotonic()
        host = client(url, folder / f"host{number}", token)
        svid = await svid_of(host)
        taken.append(1000 * (monotonic() - before))
    median, p99 = harness.median(taken), harness.percentile(taken, 0.99)
    print(f"  join: {median:.1f} ms median, {p99:.1f} ms p99 (bar {BAR_JOIN_MS} ms)", flush=True)
    return svid, (await host.bundle()).roots_pem


class _Renewals:
    """Renewals by one host at a server; each method gives the CPU seconds of one."""

    def __init__(self, svid: SVID, roots_pem: bytes) -> None:
        self._context = tls.client_context(roots_pem, svid.chain_pem, svid.private_key_pem)
        self._ask = {"csr": new_key_and_csr(WEB)[1].decode(), "lifetime_seconds": 3600}

    def cpu(self, url: str, pid: int, *, is_kept: bool) -> float:
        """What the server's process spends."""
        count = KEPT if is_kept else FRESH
        before = harness.cpu_seconds(pid)
        asyncio.run(self._ask_all(url, count, is_kept=is_kept))
        return (harness.cpu_seconds(pid) - before) / count

    async def _ask_all(self, url: str, count: int, *, is_kept: bool) -> None:
        connector = aiohttp.TCPConnector(
            ssl=self._context, limit=CONNECTIONS, force_close=not is_kept
        )
        left = iter(range(count))

        async def one(http: aiohttp.ClientSession) -> None:
            for _ in left:
                async with http.post(url, json=self._ask) as answer:
                    answer.raise_for_status()
                    await answer.read()

        async with (
            aiohttp.ClientSession(connector=connector) as http,
            asyncio.TaskGroup() as asking,
        ):
            for _ in range(CONNECTIONS):
                asking.create_task(one(http))


def _signing() -> Callable[[bytes], bytes]:
    """A certificate for a request (both PEM) by `cryptography` alone: nothing is linted."""
    now = CLOCK.now()
    issuer = rotation.found(WEB.trust_domain, material(), now).intermediate
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]

    def sign(csr_pem: bytes) -> bytes:
        request = x509.load_pem_x509_csr(csr_pem)
        assert request.is_signature_valid
        builder = (
            x509.CertificateBuilder()
            .public_key(request.public_key())
            .issuer_name(issuer.certificate.subject)
            .subject_name(x509.Name([]))
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + HOUR)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(parts.key_usage(signing=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(parts.uri_name(WEB.uri), critical=True)
            .add_extension(parts.authority_key(issuer.certificate), critical=False)
        )
        certificate = builder.sign(issuer.private_key, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM)

    return sign


def _in_a_loop() -> float:
    """CPU seconds of one certificate in this process, with nothing else to do."""
    sign, csr_pem = _signing(), new_key_and_csr(WEB)[1]
    before = process_time()
    for _ in range(KEPT):
        sign(csr_pem)
    return (process_time() - before) / KEPT


def _report(renewals: _Renewals, sides: dict[str, tuple[str, int]]) -> None:
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(ROUNDS):
        found["loop"].append(_in_a_loop())
        for name, (url, pid) in sides.items():
            for how in ("kept", "new"):
                cpu = renewals.cpu(url, pid, is_kept=how == "kept")
                found[f"{name} {how}"].append(cpu)
    cost = {name: harness.median(values) for name, values in found.items()}
    print("  certificates per second of CPU, medians; the last three on a connection kept / new:")
    print(f"    cryptography in a loop  {1 / cost['loop']:5.0f}")
    for name in sides:
        print(f"    {name:23s} {1 / cost[f'{name} kept']:5.0f} / {1 / cost[f'{name} new']:.0f}")
    kept, new = (cost[f"the floor {how}"] / cost[f"ours {how}"] for how in ("kept", "new"))
    print(f"    ours / the floor        {kept:5.2f} / {new:.2f} (bar: ours kept {BAR_PER_SECOND})")
