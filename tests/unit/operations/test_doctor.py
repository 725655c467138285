"""Findings say what is wrong and what to do."""

import socket
from datetime import timedelta
from pathlib import Path

from mesh.diagnostics import Diagnostic, Position, Severity
from mesh.model.policy import Address
from mesh.operations.doctor import (
    Finding,
    Level,
    check_clock,
    check_ports,
    check_sidecars,
    check_state,
)
from mesh.operations.sidecars import Member
from tests.support.planning import NOON, status

NACK = Diagnostic(Position("web.yaml", 12), Severity.ERROR, "rejected-by-envoy", "no")


def worst(findings: list[Finding]) -> Level:
    return max((item.level for item in findings), key=list(Level).index)


def test_a_private_state_folder_is_fine(tmp_path: Path):
    tmp_path.chmod(0o700)
    assert worst(list(check_state(tmp_path))) is Level.OK


def test_a_state_folder_that_others_may_read_is_an_error_with_the_command(tmp_path: Path):
    tmp_path.chmod(0o755)
    found = next(check_state(tmp_path))
    assert found.is_error
    assert found.hint == f"chmod 700 {tmp_path}"


def test_a_state_folder_that_lacks_will_be_made(tmp_path: Path):
    (found,) = check_state(tmp_path / "a" / "b")
    assert found.level is Level.OK


def test_a_port_of_another_program_is_told_and_a_sidecars_own_is_fine():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = Address("127.0.0.1", taken.getsockname()[1])
        (found,) = check_ports([address], [])
        assert found.level is Level.WARNING
        assert str(address.port) in found.hint
        (found,) = check_ports([address], [Member(status("a", outbound=address), True)])
        assert found.level is Level.OK


def test_what_is_newer_on_the_disk_than_what_runs_is_told():
    old = status("old", revision=7, seen=7, upgrade="Envoy 1.41.0 is installed, 1.40.0 runs")
    found = [item for item in check_sidecars([Member(old, True)], 7, NOON) if item.hint]
    assert [(item.check, item.level) for item in found] == [("upgrade", Level.WARNING)]
    assert found[0].message == "old: Envoy 1.41.0 is installed, 1.40.0 runs"
    assert "systemctl reload" in found[0].hint
    assert "upgrade" not in {item.check for item in check_sidecars([Member(old, False)], 7, NOON)}


def test_sidecars_that_are_not_in_sync_are_told():
    members = [
        Member(status("fine", revision=7, seen=7), True),
        Member(status("slow", revision=6), True),
        Member(status("nack", revision=6, seen=7, rejections=(NACK,)), True),
        Member(status("dead", revision=7), False),
    ]
    found = {item.message.split()[0].rstrip(":"): item for item in check_sidecars(members, 7, NOON)}
    assert found["fine"].level is Level.OK
    assert found["slow"].level is Level.WARNING
    assert found["nack"].is_error
    assert "web.yaml:12" in found["nack"].message
    assert found["dead"].level is Level.WARNING
    assert all(item.hint for item in found.values() if item.level is not Level.OK)


def test_an_application_that_is_down_is_told_though_its_sidecar_is_in_sync():
    down = status("a", app=Address("127.0.0.1", 8080), is_app_accepting=False)
    member = Member(down, True)
    assert member.message == "the application accepts no connections at 127.0.0.1:8080"
    sidecar, application = check_sidecars([member], down.revision, NOON)
    assert (sidecar.level, application.level) == (Level.OK, Level.WARNING)
    assert not Member(down, False).app_trouble


def test_certificates_near_their_end_are_told():
    def level(left: timedelta) -> Level:
        member = Member(status("a", certificate_not_after=NOON + left), True)
        return list(check_sidecars([member], 1, NOON))[-1].level

    assert level(timedelta(hours=12)) is Level.OK
    assert level(timedelta(minutes=30)) is Level.WARNING
    assert level(timedelta(0)) is Level.ERROR


def test_a_clock_behind_the_others_is_told():
    members = [Member(status("a"), True)]
    assert check_clock(members, None, NOON).level is Level.OK
    assert check_clock(members, None, NOON - timedelta(minutes=1)).is_error
    assert check_clock([], NOON, NOON - timedelta(minutes=1)).is_error
