from datetime import UTC, datetime

from mesh.authority.metrics import Metrics


def test_figures_are_in_prometheus_text_format() -> None:
    metrics = Metrics()
    metrics.issued("join")
    metrics.refused("join", "token-used")
    for seconds in (0.001, 0.0011, 0.3, 100.0):
        metrics.took("join", seconds)
    metrics.not_after = {"root": datetime(2030, 1, 1, tzinfo=UTC)}
    lines = metrics.text().splitlines()
    samples = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert samples['mesh_ca_certificates_issued_total{kind="join"}'] == "1"
    assert samples['mesh_ca_certificates_issued_total{kind="renew"}'] == "0"
    assert samples['mesh_ca_requests_refused_total{kind="join",reason="token-used"}'] == "1"
    assert (
        samples['mesh_ca_certificate_expiry_timestamp_seconds{certificate="root"}'] == "1893456000"
    )
    assert samples["mesh_ca_published"] == "0"
    bucket = 'mesh_ca_request_duration_seconds_bucket{kind="join",le="%s"}'
    found = [samples[bucket % bound] for bound in ("0.001", "0.0025", "0.25", "0.5", "5", "+Inf")]
    assert found == ["1", "2", "2", "3", "3", "4"]
    assert samples['mesh_ca_request_duration_seconds_count{kind="join"}'] == "4"
    assert samples['mesh_ca_request_duration_seconds_sum{kind="join"}'] == "100.3021"
