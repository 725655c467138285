"""What metrics cost: throughput and CPU with and without --metrics, scrapes, memory by service.

Four pairs of sidecars stand in front of one application, two with metrics, scraped each 5 s
(Prometheus does each 15 s, or less often), and two without; they are loaded in turn, in short
rounds. Processes of one program differ by some percent, for as long as they live: so all pairs are
made anew several times, and the two without say how far equal things are apart.
Then one caller of 100 services calls each of them, with metrics and without.
"""

import math
import re
import socket
import statistics
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Thread
from time import perf_counter

from tests.benchmarks import harness, raw, sides

SERIES = 8
ROUNDS = 4
SECONDS = 1.0
PAIRS = {"on": ("--metrics", sides.ANY), "off": (), "same": (), "also": ("--metrics", sides.ANY)}
CONNECTIONS = 16
SERVICES = 100
SCRAPE_SECONDS = 5
BAR = 0.97
Loaded = tuple[float, float]  # requests/s, and microseconds of CPU for each
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
        _throughput(folder, harness.generator(folder), app)
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


def _throughput(folder: Path, program: Path, app: int) -> None:
    series: list[dict[str, Loaded]] = []
    scrapes: list[float] = []
    for number in range(SERIES):
        with ExitStack() as all_:
            pairs = {
                name: all_.enter_context(
                    _pair(folder / f"{number}-{name}", app, sides.PAIR, *flags)
                )
                for name, flags in PAIRS.items()
            }
            metered = [sidecar for name in ("on", "also") for sidecar in pairs[name]]
            all_.enter_context(_scraped(metered, scrapes))
            series.append(_load_in_turn(program, pairs))
    rates, costs = ([{n: o[at] for n, o in one.items()} for one in series] for at in (0, 1))
    ratio, noise = _ratios(rates)
    cpu_ratio, cpu_noise = _ratios(costs)
    verdict = "" if statistics.mean(ratio) >= BAR else f" (bar {BAR} missed)"
    print(
        f"  {CONNECTIONS} connections, closed loop: throughput with / without "
        f"{_spread(ratio)}{verdict}, of equal pairs {_spread(noise)}"
    )
    print(
        f"  CPU of both Envoys: {harness.median([c['off'] for c in costs]):.1f} us a request "
        f"without; with / without {_spread(cpu_ratio)}, of equal pairs {_spread(cpu_noise)}"
    )
    print(f"  a scrape: {1000 * harness.median(scrapes):.1f} ms under load", flush=True)


def _load_in_turn(
    program: Path, pairs: dict[str, tuple[sides.Sidecar, sides.Sidecar]]
) -> dict[str, Loaded]:
    found: dict[str, list[Loaded]] = {name: [] for name in pairs}
    for turn in range(ROUNDS):
        for name in list(pairs)[:: 1 if turn % 2 else -1]:
            web, api = pairs[name]
            before = _cpu(web) + _cpu(api)
            rate = harness.load(
                program, web.outbound, host="api", connections=CONNECTIONS, seconds=SECONDS
            )["per_second"]
            spent = _cpu(web) + _cpu(api) - before
            found[name].append((rate, 1e6 * spent / (rate * SECONDS)))
    return {
        name: (harness.median([r for r, _ in all_]), harness.median([c for _, c in all_]))
        for name, all_ in found.items()
    }


def _ratios(series: list[dict[str, float]]) -> tuple[list[float], list[float]]:
    """With metrics to without, and of the two without, of each series."""
    return (
        [(one["on"] + one["also"]) / (one["off"] + one["same"]) for one in series],
        [one["same"] / one["off"] for one in series],
    )


def _spread(values: list[float]) -> str:
    """Their mean and its standard error."""
    error = statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.mean(values):.3f} +- {error:.3f}"


@contextmanager
def _scraped(sidecars: list[sides.Sidecar], took: list[float]) -> Iterator[None]:
    """They are scraped now and then while the block runs."""
    stop = Event()

    def scrape() -> None:
        while not stop.wait(SCRAPE_SECONDS):
            for sidecar in sidecars:
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
