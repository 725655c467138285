"""B1, B3: latency and throughput through two sidecars, against a hand-written Envoy pair.

Both pairs stand in the same run, in front of the same application, and are loaded in turn.
"""

from contextlib import ExitStack
from pathlib import Path

from tests.benchmarks import harness, raw, sides

ROUNDS = 5
SECONDS = 3.0
RATE = 1000


def run() -> None:
    """Print both pairs' medians and their ratios."""
    with harness.workspace() as folder, ExitStack() as stack:
        raw.issue(folder)
        app, inbound, outbound = harness.free_ports(3)
        stack.enter_context(harness.envoy(raw.application(folder, app)))
        stack.enter_context(harness.envoy(raw.callee(folder, inbound, app)))
        stack.enter_context(harness.envoy(raw.caller(folder, outbound, inbound)))
        ours = stack.enter_context(sides.pair(folder, app))
        harness.answers(outbound, "api")
        program = harness.generator(folder)
        for connections, rate in ((16, RATE), (16, 0), (64, 0)):
            _compare(program, {"raw": outbound, "mesh": ours}, connections, rate)


def _compare(program: Path, ports: dict[str, int], connections: int, rate: int) -> None:
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in ports}
    for _ in range(ROUNDS):
        for name, port in ports.items():
            result = harness.load(
                program, port, host="api", connections=connections, seconds=SECONDS, rate=rate
            )
            rounds[name].append(result)
    for measure in ("p50", "p99") if rate else ("per_second",):
        middle = {n: harness.median([each[measure] for each in all_]) for n, all_ in rounds.items()}
        ratio = harness.median(
            [m[measure] / r[measure] for m, r in zip(rounds["mesh"], rounds["raw"], strict=True)]
        )
        how = f"{connections} connections, " + (f"{rate}/s" if rate else "closed loop")
        unit = "requests/s" if measure == "per_second" else "ms"
        both = f"raw {middle['raw']:.3f}, mesh {middle['mesh']:.3f} {unit}"
        failed = sum(each["failed"] + each["missing"] for each in rounds["mesh"])
        print(f"  {how}: {measure} {both}, ratio {ratio:.3f}; {failed:.0f} failed", flush=True)
