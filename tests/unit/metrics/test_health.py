"""What an agent says of itself."""

from dataclasses import replace
from datetime import UTC, datetime

from mesh.metrics.exposition import text
from mesh.metrics.health import AgentHealth, build_info, dropped_series, health
from mesh.model.identity import ServiceName

WELL = AgentHealth(
    id="h1-default-api-1",
    service=ServiceName("default", "api"),
    version="1.2.3",
    head=7,
    compiled=7,
    applied=6,
    is_store_up=True,
    is_discovery_up=False,
    is_authority_up=True,
    stale_seconds=1.5,
    certificate_not_after=datetime(2026, 1, 1, tzinfo=UTC),
    rejections=2,
    nacks=3,
    is_compiled=True,
    is_envoy_up=True,
    envoy_restarts=1,
)


def _lines(found: AgentHealth) -> set[str]:
    return {line for line in text(health(found)).splitlines() if not line.startswith("#")}


def test_every_fact_is_a_line() -> None:
    assert _lines(WELL) == {
        'mesh_sidecar_info{id="h1-default-api-1",namespace="default",service="api",version="1.2.3"}'
        " 1",
        "mesh_head_revision 7",
        "mesh_compiled_revision 7",
        "mesh_applied_revision 6",
        "mesh_store_up 1",
        "mesh_discovery_up 0",
        "mesh_authority_up 1",
        "mesh_stale_seconds 1.5",
        "mesh_certificate_expiry_timestamp_seconds 1767225600",
        "mesh_rejected_resources 2",
        "mesh_nacks_total 3",
        "mesh_last_compile_successful 1",
        "mesh_envoy_up 1",
        "mesh_envoy_restarts_total 1",
    }


def test_without_a_certificate_there_is_no_expiry() -> None:
    lines = _lines(replace(WELL, certificate_not_after=None))
    assert not [line for line in lines if "expiry" in line]


def test_what_answers_and_what_it_left_out() -> None:
    lines = text([build_info("sync", "1.0"), dropped_series(4)]).splitlines()
    assert 'mesh_build_info{component="sync",version="1.0"} 1' in lines
    assert "mesh_series_dropped_total 4" in lines
