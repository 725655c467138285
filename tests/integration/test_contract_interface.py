"""The outside contract of the command line, tried as a user would: settings, commands, exit codes,
JSON shapes. Only the `mesh` program; nothing here knows how it is made.
"""

import json
import re
import stat
from pathlib import Path

import pytest

from tests.support.command import Mesh, Ran
from tests.support.contract import access, service

SAMPLE = """
apiVersion: mesh/v1
kind: Service
metadata: {name: api, namespace: default}
spec: {protocol: http, port: 80}
---
apiVersion: mesh/v1
kind: Service
metadata: {name: api-v1}
spec: {protocol: http, port: 80, instances: {service: api, meta: {version: v1}}}
---
apiVersion: mesh/v1
kind: Service
metadata: {name: api-v2}
spec: {protocol: http, port: 80, instances: {service: api, meta: {version: v2}}}
---
apiVersion: mesh/v1
kind: ExternalService
metadata: {name: billing-db}
spec: {protocol: tcp, port: 5432, endpoints: [{address: 192.0.2.7, port: 5432}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: canary}
spec:
  parentRefs: [{group: "", kind: Service, name: api}]
  rules:
    - matches: [{headers: [{name: x-beta, value: "1"}]}]
      backendRefs: [{name: api-v2, port: 80}]
    - backendRefs: [{name: api-v1, port: 80, weight: 90}, {name: api-v2, port: 80, weight: 10}]
---
apiVersion: mesh/v1
kind: AccessPolicy
metadata: {name: api}
spec:
  targetRefs: [{kind: Service, name: api}]
  rules:
    - name: web-reads
      action: allow
      from: [{service: web}]
      to: [{methods: [GET], paths: [{prefix: /}]}]
"""
COMMANDS = (
    *("init", "validate", "plan", "apply", "status", "get", "describe", "history", "diff"),
    *("rollback", "sync", "sidecar", "run", "demo", "doctor", "ca init", "ca serve"),
    *("ca rotate", "ca status", "token create"),
)
FLAGS = {
    "validate": "--partial --output",
    "plan": "--out --detailed-exitcode --source --output",
    "apply": "--yes --wait --no-wait --timeout --rollback-on-reject --message --source "
    "--allow-empty --output",
    "rollback": "--yes --wait --no-wait --timeout --rollback-on-reject --message --source --output",
    "status": "--watch --output",
    "get": "--revision --output",
    "sync": "--repo --branch --path --interval --once --source --resume",
    "sidecar": "--service --namespace --app --meta --tag --id --inbound --outbound --upstream "
    "--advertise --metrics --output",
    "run": "--service --namespace --app --meta --tag --id --inbound --outbound --upstream "
    "--advertise --metrics",
    "token create": "--service --namespace --ttl --uses",
    "demo": "--once",
}
DEAD = {"MESH_STORE": "etcd://127.0.0.1:1/mesh"}


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    """Commands in an empty folder."""
    return Mesh(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Mesh:
    """Commands that change nothing may share a folder."""
    return Mesh(tmp_path_factory.mktemp("shared"))


# --- the words of the command line ---------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_with_an_example_and_its_flags(shared: Mesh, command: str) -> None:
    ran = shared(*command.split(), "-h")
    assert ran.code == 0
    assert f"Example: mesh {command}" in ran.out
    missing = [flag for flag in FLAGS.get(command, "").split() if flag not in ran.out]
    assert missing == []


# --- wrong usage is 64, the outside world 3, wrong input 1 ----------------------------------------

USAGE = [
    "aply x",
    "status --nope",
    "apply",
    "apply p --yes --timeout 30",
    "apply p",
    "rollback 1",
    "rollback",
    "diff 1",
    "get Frobnicator",
    "sidecar",
    "sidecar --service api --app 8080",
    "sidecar --service api --meta version",
    "sidecar --service api --upstream ledger",
    "sidecar --service UPPER",
    "run --service web",
    "token create",
    "sync --once",
    "status --store redis://h",
    "status --discovery dns:",
    "status --ca vault:",
    "status --config nowhere.toml",
]


@pytest.mark.parametrize("words", USAGE)
def test_wrong_usage_is_64_and_is_said_as_json_on_standard_output(shared: Mesh, words: str) -> None:
    command, *rest = words.split()
    form = [] if command == "run" else ["--output", "json"]
    (shared.folder / "p").mkdir(exist_ok=True)
    (shared.folder / "p" / "a.yaml").write_text(service("api"))
    ran = shared(command, *rest, *form)
    assert ran.code == 64
    if form:
        assert set(ran.json["error"]) >= {"code", "message", "hint"}
    else:
        assert ran.out == ""
        assert ran.err.startswith("error[usage]: ")


@pytest.mark.parametrize("words", ["status", "apply p --yes"])
def test_a_dead_store_is_3(shared: Mesh, words: str) -> None:
    (shared.folder / "p").mkdir(exist_ok=True)
    (shared.folder / "p" / "a.yaml").write_text(service("api"))
    ran = shared(*words.split(), "--output", "json", environment=DEAD)
    assert ran.code == 3
    assert "127.0.0.1:1" in ran.json["error"]["message"]


# --- settings ------------------------------------------------------------------------------------


def test_flags_beat_the_environment_which_beats_the_file(mesh: Mesh) -> None:
    below = mesh.folder / "a" / "b"
    below.mkdir(parents=True)
    (mesh.folder / "mesh.toml").write_text(f'store = "sqlite://{mesh.folder}/file.db"\n')
    (mesh.folder / "other.toml").write_text(f'store = "sqlite:///{mesh.folder}/other.db"\n')
    inner = Mesh(below)
    state = {"MESH_STATE": str(mesh.folder / "state")}
    by_environment = state | {"MESH_STORE": "sqlite:environment.db"}
    flag = ("--store", f"sqlite://{mesh.folder}/flag.db")
    assert inner("status", environment=state).code == 0
    assert inner("status", environment=by_environment).code == 0
    assert inner("status", *flag, environment=by_environment).code == 0
    assert inner("status", "--config", "../../other.toml", environment=state).code == 0
    names = ("file.db", "flag.db", "other.db", "a/b/environment.db")
    assert {str(each.relative_to(mesh.folder)) for each in mesh.folder.rglob("*.db")} == set(names)


def test_names_that_are_no_settings_are_left_alone(shared: Mesh) -> None:
    known = {
        "MESH_OUTBOUND": "x",
        "MESH_UPSTREAM_DB": "x",
        "MESH_TEST_X": "x",
        "MESH_REQUIRE_X": "x",
    }
    ran = shared("status", environment=known | {"MESH_STOER": "sqlite:x.db"})
    assert ran.code == 0
    assert re.findall(r"MESH_\w+", ran.err) == ["MESH_STOER", "MESH_STORE"]


def test_the_state_folder_has_a_default_and_is_private_whatever_the_umask(tmp_path: Path) -> None:
    mesh = Mesh(tmp_path)
    found = {"XDG_STATE_HOME": str(tmp_path / "xdg"), "MESH_STATE": str(tmp_path / "own")}
    assert mesh("apply", "-", "--yes", stdin=service("api"), environment=found).code == 0
    own = tmp_path / "own"
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in (own, *own.iterdir())}
    assert modes["own"] == 0o700
    assert modes["mesh.db"] == 0o600


# --- one mesh through its life --------------------------------------------------------------------


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> tuple[Mesh, dict[str, Ran]]:
    """A mesh's first revisions, each step's answer by name."""
    mesh = Mesh(tmp_path_factory.mktemp("life"))
    file, said = mesh.folder / "p.yaml", {}
    as_json = ("--output", "json")
    file.write_text(SAMPLE)
    said["validate"] = mesh("validate", "p.yaml", *as_json)
    said["plan"] = mesh("plan", "p.yaml", "--out", "first.plan", "--detailed-exitcode", *as_json)
    said["apply"] = mesh("apply", "first.plan", "--message", "add canary", *as_json)
    said["outdated"] = mesh("apply", "first.plan", *as_json)
    said["again"] = mesh("apply", "p.yaml", "--yes", *as_json)
    said["no changes"] = mesh("plan", "p.yaml", "--detailed-exitcode", *as_json)
    moved = mesh.folder / "elsewhere"
    moved.mkdir()
    (moved / "q.yaml").write_text("# moved\n\n" + SAMPLE)
    said["moved"] = mesh("apply", "elsewhere", "--yes", *as_json)
    file.write_text(SAMPLE.replace("weight: 10}", "weight: 20}"))
    said["second"] = mesh("apply", "p.yaml", "--yes", "--source", "main", *as_json)
    said["theirs"] = mesh(
        "apply", "-", "--yes", "--source", "theirs", *as_json, stdin=service("web")
    )
    said["union"] = mesh(
        *("plan", "-", "--source", "theirs", *as_json),
        stdin=service("web") + access("of-theirs", "from: [{service: web}]"),
    )
    said["owned"] = mesh("plan", "-", "--source", "theirs", *as_json, stdin=service("api-v1"))
    said["nothing"] = mesh("apply", "-", "--yes", *as_json, stdin="# nothing\n")
    said["diff"] = mesh("diff", "1", "2", *as_json)
    said["old"] = mesh("get", "httproute", "canary", "--revision", "1", *as_json)
    said["new"] = mesh("get", "HTTPRoute", "canary", *as_json)
    said["describe"] = mesh("describe", "Service", "api", *as_json)
    said["status"] = mesh("status", *as_json)
    said["rollback"] = mesh("rollback", "1", "--yes", "--source", "main", *as_json)
    said["emptied"] = mesh(
        "apply", "-", "--yes", "--allow-empty", "--source", "theirs", *as_json, stdin=""
    )
    said["history"] = mesh("history", *as_json)
    said["kept"] = mesh("get", *as_json)
    return mesh, said


CODES = {
    "validate": 0,
    "plan": 2,
    "apply": 0,
    "outdated": 1,
    "again": 0,
    "no changes": 0,
    "moved": 0,
    "second": 0,
    "theirs": 0,
    "union": 0,
    "owned": 1,
    "nothing": 1,
    "diff": 0,
    "rollback": 0,
    "emptied": 0,
}


def test_each_step_ends_with_its_exit_code(life: tuple[Mesh, dict[str, Ran]]) -> None:
    assert {name: life[1][name].code for name in CODES} == CODES


def test_shapes_of_validate_plan_and_apply(life: tuple[Mesh, dict[str, Ran]]) -> None:
    said = life[1]
    assert said["validate"].json == {"documents": 6, "diagnostics": []}
    plan = said["plan"].json
    assert plan["base"] == 0
    assert plan["impact"] is not None
    (one,) = [each for each in plan["changes"] if each["kind"] == "HTTPRoute"]
    wanted = {"action": "create", "namespace": "default", "name": "canary", "line": 22}
    assert wanted.items() <= one.items()
    assert one["file"] == "p.yaml"
    names = {"rejected": [], "pending": []}
    sidecars = said["apply"].json["sidecars"]
    assert names.items() <= sidecars["names"].items()
    assert {"accepted": 0, "rejected": 0, "pending": 0}.items() <= sidecars.items()
    wanted = {"revision": 1, "unchanged": False, "diagnostics": []}
    assert wanted.items() <= said["apply"].json.items()


def test_a_plan_is_bound_to_its_base(life: tuple[Mesh, dict[str, Ran]]) -> None:
    error = life[1]["outdated"].json["error"]
    assert error["code"] == "stale-plan"
    assert re.match(r'plan outdated: head moved from 0 to 1 by .+, "add canary"', error["message"])


def test_equal_or_moved_documents_commit_nothing(life: tuple[Mesh, dict[str, Ran]]) -> None:
    said = life[1]
    for name in ("again", "moved"):
        assert {"revision": 1, "unchanged": True}.items() <= said[name].json.items()
    assert said["no changes"].json["changes"] == []
    assert said["second"].json["revision"] == 2


def test_sources_own_their_documents_and_link_against_all(
    life: tuple[Mesh, dict[str, Ran]],
) -> None:
    said = life[1]
    assert [each["name"] for each in said["union"].json["changes"]] == ["of-theirs"]
    assert said["owned"].json["diagnostics"][0]["code"] == "owned-elsewhere"
    assert "--allow-empty" in json.dumps(said["nothing"].json)
    assert [
        each["metadata"]["name"] for each in said["kept"].json if each["kind"] == "Service"
    ] == [
        *("api", "api-v1", "api-v2"),
    ]


def test_get_diff_and_rollback_know_revisions(life: tuple[Mesh, dict[str, Ran]]) -> None:
    said = life[1]
    weights = [
        said[name].json[0]["spec"]["rules"][1]["backendRefs"][1]["weight"]
        for name in ("old", "new")
    ]
    assert weights == [10, 20]
    (change,) = said["diff"].json["changes"]
    assert (change["action"], change["kind"], change["name"]) == ("update", "HTTPRoute", "canary")
    (canary,) = [each for each in said["kept"].json if each["kind"] == "HTTPRoute"]
    assert canary == said["old"].json[0]


def test_shape_of_history(life: tuple[Mesh, dict[str, Ran]]) -> None:
    revisions = life[1]["history"].json
    assert [each["revision"] for each in revisions] == [5, 4, 3, 2, 1]
    keys = {"revision", "parent", "time", "author", "message", "source", "commit", "changes"}
    for each in revisions:
        assert keys <= set(each)
        assert set(each["changes"]) >= {"create", "update", "delete"}
        assert each["parent"] == each["revision"] - 1
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", each["time"])
    first = revisions[-1]
    assert (first["message"], first["source"]) == ("add canary", "main")
    assert {"create": 6, "update": 0, "delete": 0}.items() <= first["changes"].items()
    times = [each["time"] for each in reversed(revisions)]
    assert times == sorted(times)


def test_shape_of_status_without_sidecars(life: tuple[Mesh, dict[str, Ran]]) -> None:
    assert {"head": 3, "sidecars": []}.items() <= life[1]["status"].json.items()


def test_describe_says_what_applies_and_from_where(life: tuple[Mesh, dict[str, Ran]]) -> None:
    found = life[1]["describe"].json
    wanted = {"kind": "Service", "namespace": "default", "name": "api", "file": "p.yaml"}
    assert wanted.items() <= found.items()
    kinds = {(each["kind"], each["name"]) for each in found["relations"]}
    assert {("HTTPRoute", "canary"), ("AccessPolicy", "api"), ("Service", "api-v2")} <= kinds


def test_documents_that_are_printed_are_the_same_documents(
    life: tuple[Mesh, dict[str, Ran]],
) -> None:
    mesh, _ = life
    text = mesh("get").out
    ran = mesh("plan", "-", "--output", "json", stdin=text)
    assert ran.json["changes"] == []


# --- plans and tokens ----------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["text", "json", "markdown"])
def test_a_plan_is_told_in_three_forms(shared: Mesh, form: str) -> None:
    ran = shared("plan", "-", "--output", form, stdin=service("api"))
    assert ran.code == 0
    assert "api" in ran.out
    assert ran.err == ""


def test_a_token_is_made_alone_on_standard_output(shared: Mesh) -> None:
    words = ("token", "create", "--service", "api", "--ttl", "1h", "--uses", "2")
    text, again = shared(*words), shared(*words, "--output", "json")
    assert text.code == 0
    assert len(text.out.split()) == 1
    assert text.out.strip() not in text.err
    wanted = {"service": "api", "namespace": "default", "uses": 2}
    assert wanted.items() <= again.json.items()
    assert again.json["token"] != text.out.strip()
