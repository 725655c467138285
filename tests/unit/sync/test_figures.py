"""What a sync counts, as Prometheus reads it."""

from datetime import UTC, datetime

from mesh.metrics.exposition import text
from mesh.model.source import GitCommit, SourceStatus, SyncState
from mesh.sync.counters import Counters
from mesh.sync.figures import figures

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def _status(state: SyncState, code: str = "") -> SourceStatus:
    return SourceStatus(
        source="shop",
        repository="r",
        branch="main",
        path="",
        state=state,
        commit=GitCommit(id="a" * 40, author="x", subject="y", time=NOON),
        applied="a" * 40,
        revision=7,
        code=code,
        since=NOON,
        checked=NOON,
    )


def _lines(counted: Counters) -> list[str]:
    return [line for line in text(figures(counted, "shop")).splitlines() if line[0] != "#"]


def test_exactly_one_state_holds() -> None:
    counted = Counters(is_leading=True)
    counted.note(_status(SyncState.SYNCED), NOON)
    counted.note(_status(SyncState.REFUSED, "invalid-documents"), NOON)
    lines = _lines(counted)
    assert 'mesh_sync_leading{source="shop"} 1' in lines
    states = [line for line in lines if line.startswith("mesh_sync_state") and line.endswith(" 1")]
    assert states == ['mesh_sync_state{source="shop",state="refused"} 1']
    assert 'mesh_sync_failures_total{source="shop",code="invalid-documents"} 1' in lines
    assert 'mesh_sync_applied_total{source="shop"} 1' in lines
    assert 'mesh_sync_revision{source="shop"} 7' in lines
    assert f'mesh_sync_checked_timestamp_seconds{{source="shop"}} {int(NOON.timestamp())}' in lines


def test_one_that_stands_by_knows_no_state() -> None:
    lines = _lines(Counters())
    assert 'mesh_sync_leading{source="shop"} 0' in lines
    assert not [line for line in lines if line.startswith("mesh_sync_state")]
