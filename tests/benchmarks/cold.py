"""B22: everything dead but the data plane, then a cold start with every server dead.

web calls api through two sidecars on a real etcd and a real Consul. Both are killed and the CA's
folder moved away: no request may fail. Both agents are killed: nor then. Then the Envoys are killed
too and both sidecars start from what is on their disk; the clock runs from their start to the
first 200.
`MESH_BENCH_OUTAGE=600` for the ten minutes of the bar.
"""

import http.client
import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Event
from time import monotonic

from mesh.errors import OutsideError
from tests.benchmarks import commits, harness, raw, sides
from tests.support import servers

OUTAGE_SECONDS = float(os.environ.get("MESH_BENCH_OUTAGE", "60"))
STARTS = 5
RATE = 500
CONNECTIONS = 16
LIMIT_SECONDS = 20.0
OK = 200


def run() -> None:
    """Print failures during the outage, and how long cold starts take."""
    with harness.workspace() as folder, ExitStack() as stack:
        app, inbound, outbound = harness.free_ports(3)
        stack.enter_context(harness.envoy(raw.application(folder, app)))
        program = harness.generator(folder)
        with ExitStack() as around:
            settings = dict(around.enter_context(commits.etcd(folder / "store")))
            consul = around.enter_context(servers.consul(folder / "store"))
            mesh = sides.Mesh(folder, settings | {"MESH_DISCOVERY": f"consul://{consul.endpoint}"})
            mesh.apply(sides.PAIR, "--no-wait")
            pair = _Pair(mesh, app, inbound, outbound)
            stack.callback(pair.kill)
            pair.start()
            pair.wait_ready()
        # etcd and Consul are dead from here on.
        (folder / "state" / "ca").rename(folder / "ca-is-gone")
        _outage(program, pair)
        took = []
        for _ in range(STARTS):
            pair.kill()
            took.append(pair.start())
        seconds = ", ".join(f"{each:.2f}" for each in sorted(took))
        print(f"  cold start of both sidecars to the first 200: {seconds} s", flush=True)
        plain = _status(pair.inbound)
        print(f"  afterwards a plain request to api's inbound port gets: {plain}", flush=True)


def _outage(program: Path, pair: "_Pair") -> None:
    with _load(program, pair.outbound) as load:
        Event().wait(OUTAGE_SECONDS)
    print(f"  etcd, Consul and the CA gone: {load}", flush=True)
    pair.kill_agents()
    with _load(program, pair.outbound) as load:
        Event().wait(OUTAGE_SECONDS)
    print(f"  the agents killed too: {load}", flush=True)


def _load(program: Path, port: int) -> harness.Background:
    return harness.Background(program, port, host="api", connections=CONNECTIONS, rate=RATE)


class _Pair:
    """web and api on fixed ports, to be killed and started again."""

    def __init__(self, mesh: sides.Mesh, app: int, inbound: int, outbound: int) -> None:
        self._mesh = mesh
        at = ("--app", f"127.0.0.1:{app}", "--inbound", f"127.0.0.1:{inbound}")
        self._flags = {
            "api": (*at, "--outbound", sides.ANY),
            "web": ("--outbound", f"127.0.0.1:{outbound}"),
        }
        self._agents: dict[str, subprocess.Popen[bytes]] = {}
        self.inbound = inbound
        self.outbound = outbound

    def start(self) -> float:
        """Start both at once; seconds until the first 200."""
        start = monotonic()
        for service, flags in self._flags.items():
            self._agents[service] = self._mesh.launch(service, *flags)
        _until(lambda: _status(self.outbound) == OK)
        return monotonic() - start

    def wait_ready(self) -> None:
        """Wait until both said that they serve: what they run on is on their disk by then."""
        for service, agent in self._agents.items():
            self._mesh.ready(service, agent)

    def kill_agents(self) -> None:
        """End the agents as a power cut would; the Envoys stay."""
        for agent in self._agents.values():
            agent.kill()
            agent.wait()

    def kill(self) -> None:
        """End agents and Envoys as a power cut would."""
        self.kill_agents()
        for pid in self._mesh.envoys():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _until(lambda: _status(self.outbound) is None)


def _until(holds: Callable[[], bool]) -> None:
    end = monotonic() + LIMIT_SECONDS
    while not holds():
        if monotonic() > end:
            raise OutsideError(f"did not happen within {LIMIT_SECONDS:g} s")
        Event().wait(0.002)


def _status(port: int) -> int | None:
    """The status of one request for api, None without an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/", headers={"host": "api"})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
