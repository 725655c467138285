"""validate, plan, apply and rollback, as processes."""

import os
from pathlib import Path

import pytest

from tests.support.command import Mesh
from tests.support.operations import access, service, write


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    """Commands in an empty folder."""
    return Mesh(tmp_path)


def test_a_broken_set_is_told_in_full_and_nothing_is_written(mesh: Mesh):
    wrong = service("api").replace("protocol", "protocl") + "---\n" + access("stock", "web")
    write(mesh.folder / "p", a=wrong)
    ran = mesh("validate", "p", "--output", "json")
    assert ran.code == 1
    assert ran.json["documents"] == 2
    assert len(ran.json["diagnostics"]) >= 2
    first = ran.json["diagnostics"][0]
    assert (first["file"], first["line"], first["severity"]) == ("a.yaml", 4, "error")
    assert first.keys() >= {"column", "code", "message", "hint"}
    applied = mesh("apply", "p", "--yes")
    assert applied.code == 1
    assert "a.yaml:4:" in applied.err
    assert "nothing was written" in applied.err
    assert mesh("history", "--output", "json").json == []


def test_validate_reads_standard_input(mesh: Mesh):
    assert mesh("validate", "-", stdin=service("api")).code == 0
    ran = mesh("validate", "-", stdin="kind: Service")
    assert ran.code == 1
    assert ran.out.startswith("<stdin>:1:1: error[")


def test_validate_of_a_part_warns_where_a_whole_set_is_refused(mesh: Mesh):
    write(mesh.folder / "p", a=access("api", "web"))
    assert mesh("validate", "p").code == 1
    ran = mesh("validate", "p", "--partial", "--output", "json")
    assert ran.code == 0
    assert {item["severity"] for item in ran.json["diagnostics"]} == {"warning"}


def test_a_plan_shows_the_changes_and_its_exit_code_where_asked(mesh: Mesh):
    write(mesh.folder / "p", a=service("api"))
    ran = mesh("plan", "p", "--output", "json", "--detailed-exitcode")
    assert ran.code == 2
    assert ran.json["base"] == 0
    (change,) = ran.json["changes"]
    expected = {"action": "create", "kind": "Service", "namespace": "default", "name": "api"}
    assert expected.items() <= change.items()
    assert (change["file"], change["line"]) == ("a.yaml", 1)
    assert mesh("plan", "p").code == 0
    assert "| create | Service default/api |" in mesh("plan", "p", "--output", "markdown").out
    mesh("apply", "p", "--yes")
    assert mesh("plan", "p", "--detailed-exitcode").code == 0


def test_apply_rolls_forward_and_back(mesh: Mesh):
    write(mesh.folder / "p", a=service("api"))
    ran = mesh("apply", "p", "--yes", "--message", "first", "--output", "json")
    assert ran.code == 0
    assert ran.json["revision"] == 1
    assert ran.json["unchanged"] is False
    assert ran.json["sidecars"] == {
        "accepted": 0,
        "rejected": 0,
        "pending": 0,
        "names": {"accepted": [], "rejected": [], "pending": []},
    }
    again = mesh("apply", "p", "--yes", "--output", "json")
    assert (again.json["revision"], again.json["unchanged"]) == (1, True)
    write(mesh.folder / "p", a=service("api", extra=", dependencies: []"))
    assert mesh("apply", "p", "--yes").code == 0
    assert "spec.dependencies: (none) -> []" in mesh("diff", "1", "2").out
    back = mesh("rollback", "1", "--yes", "--output", "json")
    assert back.json["revision"] == 3
    assert mesh("diff", "1", "3", "--output", "json").json["changes"] == []
    newest, _, first = mesh("history", "--output", "json").json
    assert newest["message"] == "roll back to 1"
    assert (first["revision"], first["parent"], first["message"]) == (1, 0, "first")
    assert first["changes"] == {"create": 1, "update": 0, "delete": 0}
    assert first["time"].endswith("Z")


def test_without_a_terminal_apply_needs_consent(mesh: Mesh):
    write(mesh.folder / "p", a=service("api"))
    assert mesh("apply", "p").code == 64
    assert mesh("rollback", "1").code == 64
    assert mesh("apply", "p", "--yes").code == 0


def test_a_plan_file_is_applied_once_and_then_stale(mesh: Mesh):
    write(mesh.folder / "p", a=service("api"))
    assert mesh("plan", "p", "--out", "next.plan").code == 0
    assert (mesh.folder / "next.plan").stat().st_mode & 0o777 == 0o600
    assert mesh("apply", "next.plan", "p").code == 64
    assert mesh("apply", "next.plan").code == 0
    stale = mesh("apply", "next.plan", "--output", "json")
    assert stale.code == 1
    assert stale.json["error"]["code"] == "stale-plan"
    assert "head moved from 0 to 1 by" in stale.json["error"]["message"]


def test_a_damaged_plan_file_is_refused(mesh: Mesh):
    write(mesh.folder / "p", a=service("api"))
    mesh("plan", "p", "--out", "next.plan")
    file = mesh.folder / "next.plan"
    file.write_bytes(file.read_bytes()[:-3])
    ran = mesh("apply", "next.plan")
    assert ran.code == 1
    assert "damaged" in ran.err


def test_nothing_at_all_is_refused_unless_it_is_meant(mesh: Mesh):
    write(mesh.folder / "p", a=service("api"))
    mesh("apply", "p", "--yes")
    write(mesh.folder / "empty", a="# nothing")
    assert mesh("apply", "empty", "--yes").code == 1
    assert mesh("apply", "empty", "--yes", "--allow-empty").code == 0
    assert mesh("get", "--output", "json").json == []


def test_a_path_that_is_not_there_is_wrong_input(mesh: Mesh):
    assert mesh("validate", "nowhere").code == 1
    assert mesh("apply", "nowhere", "--yes").code == 1


def test_sources_own_their_documents(mesh: Mesh):
    write(mesh.folder / "p", a=service("api"))
    mesh("apply", "p", "--yes", "--source", "one")
    ran = mesh("apply", "p", "--yes", "--source", "two", "--output", "json")
    assert ran.code == 1
    assert ran.json["diagnostics"][0]["code"] == "owned-elsewhere"


def test_a_plan_goes_into_a_file_through_a_link_and_into_nothing_else(mesh: Mesh):
    write(mesh.folder / "p", a=service("api"))
    (mesh.folder / "link").symlink_to("there")
    assert mesh("plan", "p", "--out", "link").code == 0
    assert (mesh.folder / "link").is_symlink()
    assert mesh("apply", "there").code == 0
    os.mkfifo(mesh.folder / "pipe")
    ran = mesh("plan", "p", "--out", "pipe")
    assert (ran.code, "it is there and no file" in ran.err) == (1, True)
    assert (mesh.folder / "pipe").is_fifo()
