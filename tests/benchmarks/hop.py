"""B1, B2, B3: latency, CPU and throughput through two sidecars, against a hand-written Envoy pair.

Both pairs stand in the same run, in front of the same application, and are loaded in turn. Ratios
are medians over the rounds. CPU is the two proxies' together, for one request.
`MESH_BENCH_LOADS=paced` leaves the closed loops out, which take every core that there is.
"""

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import harness, raw, sides

ROUNDS = 5
SECONDS = 3.0
RATE = 1000
LOADS = {"paced": (16, RATE), "16": (16, 0), "64": (64, 0)}
CHOSEN = os.environ.get("MESH_BENCH_LOADS", ",".join(LOADS)).split(",")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two proxies, and the port where requests go in."""

    port: int
    proxies: tuple[int, int]

    def cpu(self) -> float:
        """Seconds of CPU that both took so far."""
        return sum(harness.cpu_seconds(pid) for pid in self.proxies)


def run() -> None:
    """Print both pairs' medians and their ratios."""
    with harness.workspace() as folder, ExitStack() as stack:
        raw.issue(folder)
        app, inbound, outbound = harness.free_ports(3)
        stack.enter_context(harness.envoy(raw.application(folder, app)))
        callee = stack.enter_context(harness.envoy(raw.callee(folder, inbound, app)))
        caller = stack.enter_context(harness.envoy(raw.caller(folder, outbound, inbound)))
        api, web = stack.enter_context(sides.pair(folder, app))
        harness.answers(outbound, "api")
        program = harness.generator(folder)
        pairs = {
            "raw": Pair(outbound, (caller.pid, callee.pid)),
            "mesh": Pair(web.outbound, (web.envoy_pid, api.envoy_pid)),
        }
        for connections, rate in map(LOADS.__getitem__, CHOSEN):
            _compare(program, pairs, connections, rate)


def _compare(program: Path, pairs: dict[str, Pair], connections: int, rate: int) -> None:
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in pairs}
    for _ in range(ROUNDS):
        for name, pair in pairs.items():
            before = pair.cpu()
            result = harness.load(
                program, pair.port, host="api", connections=connections, seconds=SECONDS, rate=rate
            )
            result["cpu"] = 1e6 * (pair.cpu() - before) / result["requests"]
            rounds[name].append(result)
    how = f"{connections} connections, " + (f"{rate}/s" if rate else "closed loop")
    units = {"p50": "ms", "p99": "ms"} if rate else {"per_second": "requests/s"}
    for measure, unit in (units | {"cpu": "us a request"}).items():
        middle = {n: harness.median([each[measure] for each in all_]) for n, all_ in rounds.items()}
        ratio = harness.median(
            [m[measure] / r[measure] for m, r in zip(rounds["mesh"], rounds["raw"], strict=True)]
        )
        both = f"raw {middle['raw']:.3f}, mesh {middle['mesh']:.3f} {unit}"
        print(f"  {how}: {measure} {both}, ratio {ratio:.3f}", flush=True)
    failed = sum(each["failed"] + each["missing"] for each in rounds["mesh"])
    print(f"  {how}: {failed:.0f} of the mesh's requests failed", flush=True)
