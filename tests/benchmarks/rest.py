"""B32, B4: an agent at rest: its share of a core over 20 s, and its memory.

Sidecars in front of an application, no traffic, no change; one of them, four of them, and one on
etcd and Consul. PSS counts a page that several processes share in parts: whatever else runs Python
on the machine lowers it, this benchmark too. RSS counts such pages in full: an agent that is alone
on its host has a PSS between the two.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from threading import Event

from tests.benchmarks import commits, harness, raw, sides
from tests.support import servers
from tools.servers import locate

SECONDS = 20
SETTLE_SECONDS = 5


def run() -> None:
    """Print CPU share and memory of the agents, and of their Envoys."""
    for count in (1, 4):
        _measure(count, "SQLite", {})
    if locate("etcd") is None or locate("consul") is None:
        print("  etcd and Consul: not installed, left out; run: make servers")
        return
    with harness.workspace() as folder, ExitStack() as stack:
        settings = dict(stack.enter_context(commits.etcd(folder)))
        consul = stack.enter_context(servers.consul(folder))
        settings["MESH_DISCOVERY"] = f"consul://{consul.endpoint}"
        _measure(1, "etcd and Consul", settings)


def _measure(count: int, what: str, settings: Mapping[str, str]) -> None:
    with harness.workspace() as folder, ExitStack() as stack:
        (app,) = harness.free_ports(1)
        stack.enter_context(harness.envoy(raw.application(folder, app)))
        mesh = sides.Mesh(folder, settings)
        mesh.apply(sides.PAIR, "--no-wait")
        sidecars = [stack.enter_context(mesh.sidecar("api", app)) for _ in range(count)]
        Event().wait(SETTLE_SECONDS)
        agents = [each.agent.pid for each in sidecars]
        envoys = [each.envoy_pid for each in sidecars]
        before = _cpu(agents), _cpu(envoys)
        Event().wait(SECONDS)
        for name, pids, cpu in (("agent", agents, before[0]), ("Envoy", envoys, before[1])):
            share = 100 * (_cpu(pids) - cpu) / SECONDS / count
            pss, rss = (
                sum(sizes) / count for sizes in zip(*map(harness.memory_mib, pids), strict=True)
            )
            sizes = f"{pss:.1f} MiB PSS, {rss:.1f} MiB RSS"
            print(f"  {what}, {count} x {name}: each {share:.2f} % of a core, {sizes}", flush=True)


def _cpu(pids: list[int]) -> float:
    return sum(harness.cpu_seconds(pid) for pid in pids)
