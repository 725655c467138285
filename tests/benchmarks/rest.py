"""B32: an agent at rest: its share of a core over 20 s, and its memory.

One sidecar in front of an application, no traffic, no change.
"""

from contextlib import ExitStack
from threading import Event

from tests.benchmarks import harness, raw, sides

SECONDS = 20
SETTLE_SECONDS = 5


def run() -> None:
    """Print CPU share and PSS of the agent, and of its Envoy."""
    with harness.workspace() as folder, ExitStack() as stack:
        (app,) = harness.free_ports(1)
        stack.enter_context(harness.envoy(raw.application(folder, app)))
        mesh = sides.Mesh(folder, {})
        mesh.apply(sides.PAIR, "--no-wait")
        api = stack.enter_context(mesh.sidecar("api", app))
        Event().wait(SETTLE_SECONDS)
        before = harness.cpu_seconds(api.agent.pid), harness.cpu_seconds(api.envoy_pid)
        Event().wait(SECONDS)
        agent = 100 * (harness.cpu_seconds(api.agent.pid) - before[0]) / SECONDS
        envoy = 100 * (harness.cpu_seconds(api.envoy_pid) - before[1]) / SECONDS
        print(f"  agent: {agent:.2f} % of a core, {harness.pss_mib(api.agent.pid):.1f} MiB PSS")
        print(f"  its Envoy: {envoy:.2f} % of a core, {harness.pss_mib(api.envoy_pid):.1f} MiB PSS")
