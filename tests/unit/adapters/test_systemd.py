"""sd_notify: said to whoever asked, silent otherwise."""

import socket
from pathlib import Path

import pytest

from mesh.adapters.systemd import notify


@pytest.mark.parametrize("abstract", [False, True])
def test_the_manager_hears_what_is_said(tmp_path: Path, abstract: bool) -> None:
    path = f"{'@' if abstract else ''}{tmp_path}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + path[1:] if abstract else path)
        assert notify("READY=1\nSTATUS=serving", {"NOTIFY_SOCKET": path})
        assert manager.recv(100) == b"READY=1\nSTATUS=serving"


def test_without_a_manager_nothing_happens() -> None:
    assert not notify("READY=1", {})


def test_a_manager_that_is_gone_is_no_reason_to_fail(tmp_path: Path) -> None:
    assert not notify("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "nobody")})
