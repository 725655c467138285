"""docs/fleet.md: the table of what was measured; the words around it are the page's own."""

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.fleet.figures import percentile

PAGE = Path(__file__).resolve().parents[2] / "docs" / "fleet.md"
_BEGIN = "<!-- made by `make fleet` -->"
_END = "<!-- end -->"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"


def _kb(size: float) -> str:
    return f"{size / 1000:.1f} kB"


ROWS = {
    "commit -> last agent, median": lambda f: _ms(statistics.median(f["last"])),
    "commit -> last agent, p99 (B10)": lambda f: _ms(percentile(f["last"], 0.99)),
    "commit -> any one agent, median": lambda f: _ms(statistics.median(f["every"])),
    "20 commits/s: rate reached": lambda f: f"{f['storm_rate']:.1f}/s",
    "... worst staleness (B13)": lambda f: _ms(f["staleness"]),
    "... median staleness": lambda f: _ms(f["staleness_median"]),
    "... pushes to one Envoy": lambda f: f"{f['pushes']:.1f}/s",
    "... etcd's CPU": lambda f: f"{100 * f['storm_etcd_cpu']:.0f} % of a core",
    "all restarted at once, median": lambda f: f"{statistics.median(f['restarts']):.1f} s",
    "all restarted at once, worst (B14)": lambda f: f"{max(f['restarts']):.1f} s",
    "first start of all": lambda f: f"{f['start']:.1f} s",
    "agent's CPU at rest": lambda f: f"{100 * f['rest_cpu']:.2f} % of a core",
    "agent's CPU per commit that concerns it": lambda f: f"{1000 * f['commit_cpu']:.1f} ms",
    "etcd's CPU per agent and commit": lambda f: f"{1e6 * f['commit_etcd_cpu']:.0f} us",
    "etcd's CPU per agent at rest": lambda f: f"{100 * f['rest_etcd_cpu']:.3f} % of a core",
    "calls per agent and second at rest": lambda f: f"{f['rest_calls']:.2f}",
    "calls per agent and commit": lambda f: f"{f['commit_calls']:.1f}",
    "bytes etcd sends per agent and commit": lambda f: _kb(f["commit_sent"]),
    "bytes etcd receives per agent and commit": lambda f: _kb(f["commit_received"]),
    "an agent's stored bytes": lambda f: _kb(f["stored"]),
    "its watches and its lease, in etcd's memory": lambda f: _kb(f["footprint"]),
    "etcd's memory per agent with its connection": lambda f: _kb(f["resident"]),
    "snapshot of one agent": lambda f: _kb(f["snapshot"]),
    "measured": lambda f: f["date"],
    "load of the machine meanwhile": lambda f: f"{f['load']:.0f}",
}


def write(known: Mapping[str, Mapping[str, Any]]) -> None:
    """Put the table into the page."""
    sizes = sorted(known, key=int)
    lines = [f"| agents | {' | '.join(sizes)} |", "|---" * (len(sizes) + 1) + "|"]
    for name, cell in ROWS.items():
        lines.append(f"| {name} | {' | '.join(cell(known[size]) for size in sizes)} |")
    before, rest = PAGE.read_text().split(_BEGIN)
    table = "\n".join(lines)
    PAGE.write_text(f"{before}{_BEGIN}\n\n{table}\n\n{_END}{rest.split(_END)[1]}")
