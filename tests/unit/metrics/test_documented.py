"""docs/metrics.md has every metric and every alert, and none that is not."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from ruamel.yaml import YAML

from mesh.metrics import statistics
from mesh.metrics.health import build_info, dropped_series, health
from mesh.metrics.process import Usage, usage
from mesh.model.source import SourceStatus, SyncState
from mesh.sync.counters import Counters
from mesh.sync.figures import figures
from tests.unit.metrics.test_health import WELL

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "metrics.md").read_text()


def _exposed() -> set[str]:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    status = SourceStatus(
        source="main",
        repository="r",
        branch="b",
        path="",
        state=SyncState.SYNCED,
        since=now,
        checked=now,
    )
    counted = Counters(applied=1, status=status, failures={"x": 1})
    families = (
        build_info("sidecar", "1"),
        dropped_series(0),
        *health(replace(WELL)),
        *usage(Usage(cpu_seconds=1, resident_bytes=1, open_files=1)),
        *figures(counted, "main"),
    )
    assert all(family.samples for family in families)
    return {family.name for family in families} | set(statistics.NAMES)


def _documented() -> set[str]:
    tables = [line for line in PAGE.splitlines() if line.startswith("| `")]
    names = {name for line in tables for name in re.findall(r"`(\w+)`", line.split("|")[1])}
    return {
        "mesh_backend_connections_total" if name == "_connections_total" else name for name in names
    }


def test_every_metric_is_on_the_page() -> None:
    assert _documented() == _exposed()


def _alerts() -> list[dict[str, str]]:
    rules = YAML(typ="safe").load((DOCS / "alerts.yaml").read_text())
    return [rule for group in rules["groups"] for rule in group["rules"]]


def test_for_every_alert_the_page_says_what_to_do() -> None:
    headings = re.findall(r"^### (Mesh\w+)$", PAGE, re.MULTILINE)
    assert sorted(headings) == sorted(rule["alert"] for rule in _alerts())


def test_alerts_ask_for_metrics_that_exist() -> None:
    asked = {name for rule in _alerts() for name in re.findall(r"\bmesh_\w+", rule["expr"])}
    named = {name for name in asked if not name.startswith("mesh_ca_")}
    assert {name.removesuffix("_bucket") for name in named} <= _exposed()
    authority = {name for name in asked if name.startswith("mesh_ca_")}
    assert all(f"`{name}`" in PAGE for name in authority)
