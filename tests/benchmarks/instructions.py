"""B2 by instructions: what a request takes in each proxy, against a hand-written Envoy pair.

Counted by callgrind in the thread that serves, user code only, one connection: a busy machine
changes it by a few thousandths, so that a setting of some cost shows in one run. What the kernel
does for a request is not in it, and an instruction is not a time.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from tests.benchmarks import harness, raw
from tests.support import compiled, sidecars
from tests.support.policies import allow, policies, service

BATCHES = 8
REQUESTS = 40
POLICIES = policies(service("api"), allow("api", "web"))
AUTHORITY = sidecars.Authority()
Ports = tuple[int, int, int]


def run() -> None:
    """Print instructions of both proxies, without and with metrics."""
    if shutil.which("valgrind") is None:
        print("  valgrind: not installed, left out")
        return
    harness.START_SECONDS = 120
    with harness.workspace() as folder, ExitStack() as stack:
        raw.issue(folder)
        (app,) = harness.free_ports(1)
        stack.enter_context(harness.envoy(raw.application(folder, app)))
        program = harness.generator(folder)
        anchor: Mapping[str, float] = {}
        for name, configurations in (("raw", _raw), ("mesh", _mesh), ("with metrics", _metrics)):
            outbound, inbound = harness.free_ports(2)
            files = configurations(folder, (outbound, inbound, app))
            found = _measure(program, folder / name, files, outbound)
            anchor = anchor or found
            print(f"  {name}: " + ", ".join(_shown(found, anchor)), flush=True)


def _shown(found: Mapping[str, float], anchor: Mapping[str, float]) -> list[str]:
    both, base = sum(found.values()), sum(anchor.values())
    sides = [f"{side} {count:.0f}" for side, count in found.items()]
    return [*sides, f"both {both:.0f} a request, ratio {both / base:.3f}"]


def _raw(folder: Path, ports: Ports) -> dict[str, Path]:
    outbound, inbound, app = ports
    callee = raw.callee(folder, inbound, app)
    return {"callee": callee, "caller": raw.caller(folder, outbound, inbound)}


def _mesh(folder: Path, ports: Ports, *, metrics: bool = False) -> dict[str, Path]:
    outbound, inbound, app = ports
    at = sidecars.Address(sidecars.HOST, inbound)
    callee = replace(sidecars.placement("api", app=app), inbound=at, metrics=metrics)
    at = sidecars.Address(sidecars.HOST, outbound)
    caller = replace(sidecars.placement("web"), outbound=at, metrics=metrics)
    instances = sidecars.catalog(sidecars.endpoint("api", inbound))
    found = {}
    for side, place in (("callee", callee), ("caller", caller)):
        view = sidecars.view(POLICIES, place, AUTHORITY, instances)
        found[side] = folder / f"{side}.json"
        found[side].write_text(json.dumps(compiled.static(view)))
    return found


def _metrics(folder: Path, ports: Ports) -> dict[str, Path]:
    return _mesh(folder, ports, metrics=True)


def _measure(
    program: Path, folder: Path, files: Mapping[str, Path], port: int
) -> Mapping[str, float]:
    """Each side's instructions for one request: of some short batches the least."""
    folder.mkdir()
    with ExitStack() as stack:
        pids = {}
        for side, file in files.items():
            out = f"--callgrind-out-file={folder}/{side}"
            flags = ("--tool=callgrind", "--instr-atstart=no", "--separate-threads=yes", out)
            command = ("valgrind", "--log-file=/dev/null", *flags)
            pids[side] = stack.enter_context(harness.envoy(file, *command)).pid
        harness.answers(port, "api")
        _control(pids, "--instr=on")
        _ask(program, port)
        counts: dict[str, list[float]] = {side: [] for side in files}
        for _ in range(BATCHES):
            _control(pids, "--zero")
            asked = _ask(program, port)
            _control(pids, "--dump")
            for side, found in counts.items():
                found.append(_busiest(folder, side) / asked)
    return {side: min(found) for side, found in counts.items()}


def _ask(program: Path, port: int) -> float:
    """One batch, each request after the last one's answer."""
    done = harness.load(program, port, host="api", connections=1, seconds=0.01, rate=100 * REQUESTS)
    return done["requests"]


def _control(pids: Mapping[str, int], flag: str) -> None:
    for pid in pids.values():
        subprocess.run(["callgrind_control", flag, str(pid)], check=True, capture_output=True)


def _busiest(folder: Path, side: str) -> int:
    """Instructions of the thread that served, from the dumps since the last call."""
    counts: dict[str, int] = {}
    for file in folder.glob(f"{side}.*"):
        thread = file.name.rpartition("-")[2]
        found = re.findall(r"^totals: (\d+)", file.read_text(), re.MULTILINE)
        counts[thread] = counts.get(thread, 0) + sum(map(int, found))
        file.unlink()
    return max(counts.values())
