"""What metrics cost: throughput and CPU with and without --metrics, scrapes, memory by service.

Pairs of sidecars stand in front of one application in the same run, one scraped each 5 s
(Prometheus does each 15 s, or less often), two not; they are loaded in turn, in short rounds. The
second pair without metrics says what the machine makes of equal things.
Then one caller of 100 services calls each of them, with metrics and without.
"""

import re
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Thread
from time import perf_counter

from tests.benchmarks import harness, raw, sides

ROUNDS = 24
SECONDS = 1.0
CONNECTIONS = 16
SERVICES = 100
SCRAPE_SECONDS = 5
BAR = 0.97
VIEW = """\
---
apiVersion: mesh/v1
kind: Service
metadata: {{name: v{0}}}
spec: {{protocol: http, port: 80, instances: {{service: api}}}}
"""


def run() -> None:
    """Print each cost, and the bar of throughput: 97 % of that without metrics."""
    with harness.workspace() as folder, ExitStack() as stack:
        (app,) = harness.free_ports(1)
        stack.enter_context(harness.envoy(raw.application(folder, app)))
        with ExitStack() as both:
            pairs = {
                name: both.enter_context(_pair(folder / name, app, sides.PAIR, *flags))
                for name, flags in (("off", ()), ("on", ("--metrics", sides.ANY)), ("same", ()))
            }
            _throughput(harness.generator(folder), pairs)
        for name, flags in (("without", ()), ("with", ("--metrics", sides.ANY))):
            _memory(folder / name, app, name, flags)


@contextmanager
def _pair(
    folder: Path, app: int, documents: str, *flags: str
) -> Iterator[tuple[sides.Sidecar, sides.Sidecar]]:
    folder.mkdir()
    mesh = sides.Mesh(folder, {})
    mesh.apply(documents, "--no-wait")
    with mesh.sidecar("api", app, *flags) as api, mesh.sidecar("web", None, *flags) as web:
        harness.answers(web.outbound, "api")
        yield web, api


def _throughput(program: Path, pairs: dict[str, tuple[sides.Sidecar, sides.Sidecar]]) -> None:
    rates: dict[str, list[float]] = {name: [] for name in pairs}
    costs: dict[str, list[float]] = {name: [] for name in pairs}
    scrapes: list[float] = []
    with _scraped(pairs["on"], scrapes):
        for turn in range(ROUNDS):
            for name in list(pairs)[:: 1 if turn % 2 else -1]:
                web, api = pairs[name]
                before = _cpu(web) + _cpu(api)
                found = harness.load(
                    program, web.outbound, host="api", connections=CONNECTIONS, seconds=SECONDS
                )
                rates[name].append(found["per_second"])
                spent = _cpu(web) + _cpu(api) - before
                costs[name].append(1e6 * spent / (found["per_second"] * SECONDS))
    ratio, noise = (_ratio(rates, name) for name in ("on", "same"))
    verdict = "" if ratio >= BAR else f" (bar {BAR} missed)"
    print(
        f"  {CONNECTIONS} connections, closed loop: {harness.median(rates['off']):.0f} requests/s "
        f"without, {harness.median(rates['on']):.0f} with; ratio {ratio:.3f}{verdict}, "
        f"of equal pairs {noise:.3f}"
    )
    print(
        f"  CPU of both Envoys: {harness.median(costs['off']):.1f} us a request without, "
        f"{harness.median(costs['on']):.1f} with; ratio {_ratio(costs, 'on'):.3f}, "
        f"of equal pairs {_ratio(costs, 'same'):.3f}"
    )
    print(f"  a scrape: {1000 * harness.median(scrapes):.1f} ms under load", flush=True)


def _ratio(rounds: dict[str, list[float]], name: str) -> float:
    """To the pair without metrics, round by round."""
    return harness.median([a / b for a, b in zip(rounds[name], rounds["off"], strict=True)])


@contextmanager
def _scraped(pair: tuple[sides.Sidecar, sides.Sidecar], took: list[float]) -> Iterator[None]:
    """Both are scraped now and then while the block runs."""
    stop = Event()

    def scrape() -> None:
        while not stop.wait(SCRAPE_SECONDS):
            for sidecar in pair:
                start = perf_counter()
                _scrape(sidecar)
                took.append(perf_counter() - start)

    thread = Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _scrape(sidecar: sides.Sidecar) -> str:
    with urllib.request.urlopen(f"http://{sidecar.ready['metrics']}/metrics", timeout=10) as answer:
        return str(answer.read(), "utf-8")


def _memory(folder: Path, app: int, name: str, flags: tuple[str, ...]) -> None:
    documents = sides.PAIR + "".join(VIEW.format(n) for n in range(SERVICES))
    documents += (
        sides.PAIR.partition("---")[2]
        .replace("name: api}", "name: views}", 1)
        .replace("{kind: Service, name: api}", "{kind: Namespace, name: default}")
        .join(("---", ""))
    )
    with _pair(folder, app, documents, *flags) as (web, _):
        for n in range(SERVICES):
            harness.answers(web.outbound, f"v{n}")
        said = f"{name} metrics, {SERVICES} services called: "
        if flags:
            start = perf_counter()
            text = _scrape(web)
            took = perf_counter() - start
            series = sum(1 for line in text.splitlines() if not line.startswith("#"))
            said += f"{series} series, {len(text) // 1000} kB in {1000 * took:.0f} ms; "
        heap = _heap(web) / (1 << 20)
        agent, _ = harness.memory_mib(web.agent.pid)
        print(f"  {said}Envoy's heap {heap:.2f} MiB, agent {agent:.1f} MiB PSS", flush=True)


def _heap(sidecar: sides.Sidecar) -> int:
    """What Envoy says it has allocated."""
    path = sidecar.state / "sidecars" / str(sidecar.ready["id"]) / "admin.sock"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b"GET /memory HTTP/1.1\r\nhost: e\r\nconnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    found = re.search(rb'"allocated":\s*"(\d+)"', answer)
    return int(found[1]) if found else 0


def _cpu(sidecar: sides.Sidecar) -> float:
    """Seconds that Envoy's threads have run, finer than the ticks of /proc/PID/stat."""
    tasks = Path(f"/proc/{sidecar.envoy_pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
