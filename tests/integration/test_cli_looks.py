"""The commands that look, and the command line's manners, as processes."""

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import Mesh
from tests.support.operations import access, service, write


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    """Commands in an empty folder."""
    return Mesh(tmp_path)


def test_help_imports_nothing_heavy():
    imported = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "mesh", "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    for heavy in ("grpc", "google.protobuf", "ruamel", "jsonschema_rs", "aiohttp", "cryptography"):
        assert f" {heavy}\n" not in imported


def test_version_is_told(mesh: Mesh):
    assert mesh("--version").out.startswith("mesh 0.")


def test_documents_are_printed_as_yaml_that_changes_nothing(mesh: Mesh):
    write(mesh.folder / "p", a=service("api") + "---\n" + access("api", "web"))
    mesh("apply", "p", "--yes")
    (mesh.folder / "again.yaml").write_text(mesh("get").out)
    assert mesh("apply", "again.yaml", "--yes", "--output", "json").json["unchanged"] is True
    (found,) = mesh("get", "service", "api", "--output", "json").json
    assert found["metadata"]["name"] == "api"
    assert mesh("get", "service", "apo").code == 1
    assert mesh("get", "servce").code == 64


def test_a_service_is_described(mesh: Mesh):
    write(mesh.folder / "p", a=service("api") + "---\n" + access("api", "web"))
    mesh("apply", "p", "--yes")
    assert "default/web" in mesh("describe", "Service", "api").out
    found = mesh("describe", "service", "api", "--output", "json").json
    assert found["relations"][0]["kind"] == "AccessPolicy"
    assert found["file"] == "a.yaml"


def test_an_empty_mesh_has_a_status(mesh: Mesh):
    found = mesh("status", "--output", "json").json
    assert {"head": 0, "sidecars": [], "sources": [], "lost": None}.items() <= found.items()
    assert mesh("history").out == "no revision yet\n"


def test_the_starter_validates_and_applies(mesh: Mesh):
    assert mesh("init", "shop", "--output", "json").json["files"]
    assert mesh("validate", "shop").code == 0
    assert mesh("apply", "shop", "--yes").code == 0
    assert mesh("init", "shop").code == 1


def test_the_certificate_authority_is_made_shown_and_rotated(mesh: Mesh):
    made = mesh("ca", "init", "--trust-domain", "example.org", "--output", "json")
    assert made.json["trust_domain"] == "example.org"
    assert mesh("ca", "init").code == 1
    before = mesh("ca", "status", "--output", "json").json["certificates"]
    assert {item["role"] for item in before} == {"root", "intermediate"}
    after = mesh("ca", "rotate", "--root", "--output", "json").json["certificates"]
    assert [item["use"] for item in after if item["role"] == "root"] == ["in-use", "prepared"]
    other = "apiVersion: mesh/v1\nkind: Mesh\nmetadata: {name: m}\nspec: {trustDomain: x.example}\n"
    write(mesh.folder / "p", a=other)
    refused = mesh("apply", "p", "--yes")
    assert refused.code == 1
    assert '"example.org"' in refused.err


def test_the_doctor_finds_what_is_wrong(mesh: Mesh):
    fine = mesh("doctor", "--output", "json")
    assert fine.code == 0
    assert {item["check"] for item in fine.json["findings"]} >= {"envoy", "state", "store", "clock"}
    (mesh.folder / "state").chmod(0o755)
    ran = mesh("doctor")
    assert ran.code == 3
    assert "chmod 700" in ran.out


def test_a_dead_store_is_the_outside_world(mesh: Mesh):
    dead = {"MESH_STORE": "etcd://127.0.0.1:1"}
    ran = mesh("status", "--output", "json", environment=dead)
    assert ran.code == 3
    assert "127.0.0.1:1" in ran.json["error"]["message"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["status", "--store", "etdc://h"], "etcd"),
        (["sidecar"], "--service"),
        (["sidecar", "--service", "Api"], "Api"),
        (["sidecar", "--service", "api", "--app", "8080"], "--app"),
        (["apply", "p", "--yes", "--timeout", "30"], "--timeout"),
        (["apply", "p", "--yes", "--source", "*"], "--source"),
        (["status", "--config", "nowhere.toml"], "nowhere.toml"),
        (["status", "--output", "xml"], "'-o': 'xml' is not one of"),
    ],
)
def test_wrong_usage_is_64_and_names_the_word(mesh: Mesh, arguments: list[str], word: str):
    ran = mesh(*arguments)
    assert ran.code == 64
    assert word in ran.err


def test_a_misspelt_variable_is_told_beside_the_output(mesh: Mesh):
    ran = mesh("status", "--output", "json", environment={"MESH_STROE": "etcd://127.0.0.1:1"})
    assert ran.code == 0
    assert ran.json["head"] == 0
    warning = 'MESH_STROE is no setting and has no effect; did you mean "MESH_STORE"?'
    assert ran.err == f"warning: {warning}\n"


def test_our_own_mistakes_are_reported_with_a_private_file(mesh: Mesh):
    # A folder where the database file should be is refused; a broken installation is our bug.
    program = (
        "import sys; import mesh.operations.status as s; s.status = None;"
        "from mesh.cli.app import run; sys.exit(run(['status', '--output', 'json']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=mesh.environment | {"TMPDIR": str(mesh.folder)},
        cwd=mesh.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 70
    assert done.stderr == ""
    assert json.loads(done.stdout)["error"]["code"] == "bug"
    (log,) = mesh.folder.glob("mesh-bug-*.log")
    assert "Traceback" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600


def on_a_terminal(mesh: Mesh, *arguments: str, say: bytes) -> tuple[int, str]:
    """Run a command on a terminal of its own, say something when it asks; its code and screen."""
    leader, follower = pty.openpty()
    try:
        child = subprocess.Popen(
            [sys.executable, "-m", "mesh", *arguments],
            cwd=mesh.folder,
            env=mesh.environment,
            stdin=follower,
            stdout=follower,
            stderr=follower,
            start_new_session=True,
        )
        os.close(follower)
        screen = b""
        while b"apply it?" not in screen:
            screen += os.read(leader, 4096)
        os.write(leader, say)
        while True:
            try:
                screen += os.read(leader, 4096)
            except OSError:  # the terminal's other side is closed
                break
        return child.wait(60), screen.decode()
    finally:
        os.close(leader)


def test_on_a_terminal_apply_shows_the_plan_and_asks(mesh: Mesh):
    write(mesh.folder / "p", a=service("api"))
    code, screen = on_a_terminal(mesh, "apply", "p", say=b"n\n")
    assert code == 1
    assert "Service default/api" in screen
    assert mesh("history", "--output", "json").json == []
    code, screen = on_a_terminal(mesh, "apply", "p", say=b"y\n")
    assert code == 0
    assert "revision 1" in screen


def test_the_end_of_input_at_the_question_ends_cleanly(mesh: Mesh):
    write(mesh.folder / "p", a=service("api"))
    code, screen = on_a_terminal(mesh, "apply", "p", say=b"\x04")
    assert code == 130
    assert "Traceback" not in screen
    assert mesh("history", "--output", "json").json == []


def test_a_command_that_cannot_be_run_is_refused_as_a_shell_does(mesh: Mesh):
    program = mesh.folder / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o600)
    ran = mesh("run", "--service", "web", "--", str(program))
    assert (ran.code, "error[not-executable]" in ran.err) == (126, True)
    ran = mesh("run", "--service", "web", "--", "no-such-program")
    assert (ran.code, "error[no-such-command]" in ran.err) == (127, True)


def test_ctrl_c_while_the_program_still_loads_ends_it_without_a_word(mesh: Mesh):
    with subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "mesh", "status", "--watch"],
        cwd=mesh.folder,
        env=mesh.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stderr is not None
        for line in child.stderr:
            if line.split("|")[-1].strip() == "mesh.cli":
                child.send_signal(signal.SIGINT)
                break
        err = child.stderr.read()
    assert child.returncode == -signal.SIGINT
    assert "Traceback" not in err


def test_ctrl_c_ends_a_watch_cleanly(mesh: Mesh):
    with subprocess.Popen(
        [sys.executable, "-m", "mesh", "status", "--watch", "--output", "json"],
        cwd=mesh.folder,
        env=mesh.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        first = json.loads(child.stdout.readline())
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=60)
    assert {"head": 0, "sidecars": [], "sources": [], "lost": None}.items() <= first.items()
    assert child.returncode == 130
    assert "Traceback" not in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("form", [(), ("--output", "json")])
def test_output_that_cannot_be_written_is_told_and_what_was_done_is_done(
    mesh: Mesh, form: tuple[str, ...]
):
    (mesh.folder / "api.yaml").write_text(service("api"))
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "mesh", "apply", "api.yaml", "--yes", *form],
            cwd=mesh.folder,
            env=mesh.environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ran.returncode == 3
    assert ran.stderr.startswith("error[outside]: standard output cannot be written: No space left")
    assert [each["revision"] for each in mesh("history", "--output", "json").json] == [1]


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_the_caller_closed_change_nothing_else(mesh: Mesh, closed: str):
    (mesh.folder / "api.yaml").write_text(service("api"))
    ran = subprocess.run(
        ["sh", "-c", f'"$0" -m mesh apply api.yaml --yes {closed}', sys.executable],
        cwd=mesh.folder,
        env=mesh.environment,
        check=False,
    )
    assert ran.returncode == 0
    assert [each["revision"] for each in mesh("history", "--output", "json").json] == [1]
