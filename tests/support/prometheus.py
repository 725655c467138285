"""A real Prometheus for tests, on a free loopback port, and its promtool.

with prometheus(folder, {"sidecars": ["127.0.0.1:9102"]}) as server:
    await server.value("sum(mesh_requests_total)", 3)
"""

import asyncio
import json
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from time import monotonic

from mesh.adapters.clock import SystemClock
from tests.support.servers import Server, _running, free_ports, require

CLOCK = SystemClock()
DEADLINE_SECONDS = 20.0
POLL = timedelta(milliseconds=50)
Vector = dict[tuple[tuple[str, str], ...], float]


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus that scrapes each half second."""

    server: Server

    def query(self, expression: str) -> Vector:
        """What PromQL says now: values by sorted labels."""
        asked = urllib.parse.urlencode({"query": expression})
        url = f"http://{self.server.endpoint}/api/v1/query?{asked}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            found = json.load(answer)["data"]["result"]
        return {tuple(sorted(each["metric"].items())): float(each["value"][1]) for each in found}

    async def until(self, expression: str, holds: Callable[[Vector], bool]) -> Vector:
        """What PromQL says once it `holds`."""
        end = monotonic() + DEADLINE_SECONDS
        while True:
            # Not in the loop: agents that run in the test have scrapes to answer.
            found = await asyncio.to_thread(self.query, expression)
            if holds(found):
                return found
            assert monotonic() < end, f"{expression} stayed {found}"
            await CLOCK.sleep(POLL)

    async def value(self, expression: str, wanted: float) -> None:
        """Return once the expression is one series of this value."""
        await self.until(expression, lambda found: list(found.values()) == [wanted])


@contextmanager
def prometheus(folder: Path, jobs: Mapping[str, list[str]]) -> Iterator[Prometheus]:
    """Scrapes the targets of each job; its rules are those of docs/alerts.yaml."""
    (port,) = free_ports(1)
    rules = Path(__file__).parents[2] / "docs" / "alerts.yaml"
    scrapes = [
        {"job_name": job, "static_configs": [{"targets": targets}]} for job, targets in jobs.items()
    ]
    timing = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "1s"}
    configuration = folder / "prometheus.yml"  # JSON is YAML
    configuration.write_text(
        json.dumps({"global": timing, "rule_files": [str(rules)], "scrape_configs": scrapes})
    )

    def probe() -> None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=2) as answer:
                answer.read()
        except urllib.error.HTTPError as error:  # 503 until it has read its own log
            error.close()
            raise OSError(f"status {error.code}") from None

    server = Server(
        [
            require("prometheus"),
            f"--config.file={configuration}",
            f"--storage.tsdb.path={folder / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        ],
        f"127.0.0.1:{port}",
        folder / "prometheus.log",
        probe,
    )
    with _running([server]):
        yield Prometheus(server)


def promtool(*arguments: str, given: str = "") -> str:
    """What promtool says; an AssertionError where it complains."""
    program = require("prometheus").with_name("promtool")
    done = subprocess.run(
        [program, *arguments], input=given, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
