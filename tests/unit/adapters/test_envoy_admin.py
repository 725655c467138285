"""What Envoy's statistics say of its work."""

from pathlib import Path

import pytest

from mesh.adapters.envoy.admin import Admin, Load, read_load
from mesh.errors import Unavailable


def _statistics(**values: int) -> dict[str, object]:
    return {"stats": [{"name": name, "value": value} for name, value in values.items()]}


def test_http_counts_its_requests_and_tcp_its_connections() -> None:
    found = read_load(
        _statistics(
            **{
                "http.outbound.downstream_rq_active": 2,
                "http.outbound.downstream_rq_total": 10,
                "http.outbound.downstream_cx_active": 3,
                "http.outbound.downstream_cx_total": 5,
                "listener.127.0.0.1_15001.downstream_cx_active": 3,
                "listener.127.0.0.1_15001.downstream_cx_total": 5,
                "listener.127.0.0.1_9000.downstream_cx_active": 4,
                "listener.127.0.0.1_9000.downstream_cx_total": 6,
                "listener.127.0.0.1_9000.worker_0.downstream_cx_active": 4,
            }
        )
    )
    assert found == Load(active=2 + 4, total=10 + 6)


def test_the_admin_interface_is_no_work() -> None:
    found = read_load(
        _statistics(
            **{
                "http.admin.downstream_rq_active": 1,
                "http.admin.downstream_cx_active": 1,
                "listener.admin.downstream_cx_active": 1,
                "listener.admin.main_thread.downstream_cx_active": 1,
            }
        )
    )
    assert found == Load(active=0, total=0)


def test_what_is_no_number_is_passed_over() -> None:
    entries = [{"histograms": {}}, {"name": "http.a.downstream_rq_active", "value": "x"}]
    assert read_load({"stats": entries}) == Load(active=0, total=0)


async def test_nobody_there_is_unavailable(tmp_path: Path) -> None:
    admin = Admin(tmp_path / "admin.sock")
    assert not await admin.is_ready()
    with pytest.raises(Unavailable, match=r"admin\.sock"):
        await admin.server_info()
