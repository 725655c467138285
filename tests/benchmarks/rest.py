"""B32, B4: an agent at rest: its share of a core over 20 s, and its memory.

Sidecars in front of an application, no traffic, no change; one of them alone, then four on the
host. PSS counts a page that several processes share in parts, so that an agent beside others is
charged less: what runs besides on the machine, this benchmark's own Python included, lowers the
figures by what is shared with it.
"""

from contextlib import ExitStack
from threading import Event

from tests.benchmarks import harness, raw, sides

SECONDS = 20
SETTLE_SECONDS = 5


def run() -> None:
    """Print CPU share and PSS of the agents, and of their Envoys."""
    for count in (1, 4):
        _measure(count)


def _measure(count: int) -> None:
    with harness.workspace() as folder, ExitStack() as stack:
        (app,) = harness.free_ports(1)
        stack.enter_context(harness.envoy(raw.application(folder, app)))
        mesh = sides.Mesh(folder, {})
        mesh.apply(sides.PAIR, "--no-wait")
        sidecars = [stack.enter_context(mesh.sidecar("api", app)) for _ in range(count)]
        Event().wait(SETTLE_SECONDS)
        agents = [each.agent.pid for each in sidecars]
        envoys = [each.envoy_pid for each in sidecars]
        before = _cpu(agents), _cpu(envoys)
        Event().wait(SECONDS)
        for name, pids, cpu in (("agent", agents, before[0]), ("Envoy", envoys, before[1])):
            share = 100 * (_cpu(pids) - cpu) / SECONDS / count
            pss = sum(harness.pss_mib(pid) for pid in pids)
            each = f"{share:.2f} % of a core, {pss / count:.1f} MiB PSS each"
            print(f"  {count} x {name}: {each}, {pss:.1f} MiB together", flush=True)


def _cpu(pids: list[int]) -> float:
    return sum(harness.cpu_seconds(pid) for pid in pids)
