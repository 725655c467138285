"""The outside contract of documents, tried as a user would with `mesh validate`: what is accepted,
and where, how and with which remedy a mistake is told.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import Mesh
from tests.support.contract import access, mine, route, service


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    """Commands in an empty folder."""
    return Mesh(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Mesh:
    """Commands that change nothing may share a folder."""
    return Mesh(tmp_path_factory.mktemp("shared"))


@dataclass(frozen=True)
class Wrong:
    """Documents with one mistake: where, its code and a word that the remedy has."""

    text: str
    code: str
    place: tuple[int, int] | None = None
    remedy: str = ""


DOCUMENT = "apiVersion: mesh/v1\nkind: Service\nmetadata: {name: api}\nspec: {protocol: http}\n"
NAMED = "apiVersion: mesh/v1\nkind: Service\nmetadata: {name: NAME}\nspec: {protocol: http}\n"
API = service("api")
VIEW = service("v", "protocol: http, instances: {service: api, meta: {version: v2}}")
REFERENCES = ("unknown-target", "unknown-backend", "unknown-port")
WRONG = {
    "unknown field": Wrong(DOCUMENT.replace("proto", "pro"), "unknown-field", (4, 8), "protocol"),
    "quoted port": Wrong(DOCUMENT.replace("http", 'http, port: "80"'), "wrong-type", (4, 30)),
    "port": Wrong(DOCUMENT.replace("http", "http, port: 65536"), "out-of-range", (4, 30)),
    "apiVersion": Wrong(
        DOCUMENT.replace("mesh/v1", "mesh/v2"), "unknown-api-version", (1, 13), "mesh/v1"
    ),
    "kind": Wrong(DOCUMENT.replace("Service", "Servce"), "unknown-kind", (2, 7), "Service"),
    "a deployment": Wrong(DOCUMENT.replace("Service", "Deployment"), "unknown-kind", (2, 7)),
    "metadata": Wrong(DOCUMENT.replace("metadata: {name: api}\n", ""), "missing-field", (1, 1)),
    "upper case": Wrong(NAMED.replace("NAME", "Api"), "bad-format", (3, 18), "lower-case"),
    "64 letters": Wrong(NAMED.replace("NAME", "a" * 64), "wrong-length", (3, 18)),
    "protocol": Wrong(DOCUMENT.replace("http", "htp"), "unknown-value", (4, 18), "http"),
    "no protocol": Wrong(DOCUMENT.replace("protocol: http", "port: 1"), "missing-field", (4, 7)),
    "tab": Wrong(DOCUMENT.replace("spec: {", "spec:\n\tx: {"), "yaml-syntax", (5, 1), "tabs"),
    "anchor": Wrong(DOCUMENT.replace("{name", "&a {name"), "anchors-refused", (3, 11)),
    "alias": Wrong(DOCUMENT.replace("{name: api}", "*a"), "aliases-refused", (3, 11)),
    "tag": Wrong(DOCUMENT.replace("name: api", "name: !!str api"), "tags-refused", (3, 18)),
    "duplicate key": Wrong(DOCUMENT + "spec: {protocol: tcp}\n", "duplicate-key", (5, 1)),
    "a list": Wrong("- apiVersion: mesh/v1\n", "not-a-document"),
    "no port for tcp": Wrong(service("db", "protocol: tcp"), "missing-field"),
    "twice": Wrong(API + API, "duplicate-document"),
    "two meshes": Wrong(mine("Mesh", "a", "{}") + mine("Mesh", "b", "{}"), "duplicate-mesh"),
    "duration": Wrong(
        API
        + mine(
            "TrafficPolicy",
            "t",
            "{targetRefs: [{kind: Service, name: api}], timeouts: {request: 5 sec}}",
        ),
        "bad-format",
        remedy="10s",
    ),
    "lifetime": Wrong(mine("Mesh", "m", "{certificates: {lifetime: 9s}}"), "out-of-range"),
    "access on a view": Wrong(
        API + VIEW + access("a", "from: [{service: web}]", "kind: Service, name: v"),
        "access-on-view",
        remedy='"api"',
    ),
    "no target": Wrong(API + mine("AccessPolicy", "a", "{rules: []}"), "missing-field"),
    "unknown target": Wrong(
        access("a", "from: [{service: web}]", "kind: Service, name: nowhere"), "unknown-target"
    ),
    "unknown backend": Wrong(
        API + route("{backendRefs: [{name: api-v3, port: 80}]}"), "unknown-backend", remedy="api"
    ),
    "unknown port": Wrong(
        API + route("{backendRefs: [{name: api, port: 8080}]}"), "unknown-port", remedy="80"
    ),
    "weight": Wrong(
        API + route("{backendRefs: [{name: api, port: 80, weight: -1}]}"), "out-of-range"
    ),
    "lookahead": Wrong(
        API
        + route(
            '{matches: [{path: {type: RegularExpression, value: "/(?!a)"}}], '
            "backendRefs: [{name: api, port: 80}]}"
        ),
        "bad-regex",
    ),
    "long expression": Wrong(
        API
        + route(
            f'{{matches: [{{path: {{type: RegularExpression, value: "/{"a" * 1024}"}}}}], '
            "backendRefs: [{name: api, port: 80}]}"
        ),
        "wrong-length",
    ),
    "set and add of one header": Wrong(
        API
        + route(
            "{filters: [{type: RequestHeaderModifier, requestHeaderModifier: "
            "{set: [{name: x-a, value: b}], add: [{name: X-A, value: c}]}}], "
            "backendRefs: [{name: api, port: 80}]}"
        ),
        "duplicate-item",
    ),
    "a header twice in a match": Wrong(
        API
        + route(
            "{matches: [{headers: [{name: x-a, value: b}, {name: X-A, value: c}]}], "
            "backendRefs: [{name: api, port: 80}]}"
        ),
        "duplicate-item",
    ),
    "rule names": Wrong(
        API
        + mine(
            "AccessPolicy",
            "a",
            "{targetRefs: [{kind: Service, name: api}], "
            "rules: [{name: r, action: allow}, {name: r, action: deny}]}",
        ),
        "duplicate-item",
    ),
    "conflict": Wrong(
        API
        + mine(
            "TrafficPolicy",
            "a",
            "{targetRefs: [{kind: Service, name: api}], timeouts: {request: 1s}}",
        )
        + mine(
            "TrafficPolicy",
            "b",
            "{targetRefs: [{kind: Service, name: api}], timeouts: {request: 2s}}",
        ),
        "conflicting-policies",
    ),
    "latency-aware without ejection": Wrong(
        API
        + mine(
            "TrafficPolicy",
            "a",
            "{targetRefs: [{kind: Service, name: api}], "
            "loadBalancer: {algorithm: latency-aware}, outlierDetection: off}",
        ),
        "conflicting-policies",
    ),
    "one name for two": Wrong(
        API
        + mine(
            "ExternalService",
            "api",
            "{protocol: http, endpoints: [{address: 192.0.2.7, port: 80}]}",
        ),
        "name-clash",
    ),
    "sixty-five levels": Wrong(DOCUMENT.replace("http", "[" * 65 + "]" * 65), "too-deep"),
}


def in_namespace(text: str, namespace: str) -> str:
    """The documents in a namespace of their own, so that many sets fit into one."""
    text = text.replace("namespace: default", f"namespace: {namespace}")
    return re.sub(r"(metadata: [^{]*\{name: [^,}]+)\}", rf"\1, namespace: {namespace}}}", text)


@pytest.fixture(scope="module")
def judged(shared: Mesh) -> dict[str, list[dict[str, Any]]]:
    """What `validate` says of each of the wrong files, by name. References are a set of their own:
    what they lack could be a document that is broken.
    """
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in WRONG}
    for number, (name, wrong) in enumerate(WRONG.items()):
        folder = shared.folder / ("references" if wrong.code in REFERENCES else "others")
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.yaml").write_text(in_namespace(wrong.text, f"n{number}"))
    for each in ("references", "others"):
        ran = shared("validate", each, "--output", "json")
        assert ran.code == 1
        for diagnostic in ran.json["diagnostics"]:
            found[Path(diagnostic["file"]).stem].append(diagnostic)
    return found


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_has_a_code_a_place_and_a_remedy(
    judged: dict[str, list[dict[str, Any]]], name: str
) -> None:
    wrong = WRONG[name]
    assert wrong.code in [each["code"] for each in judged[name]], judged[name]
    found = next(each for each in judged[name] if each["code"] == wrong.code)
    assert {"file", "line", "column", "severity", "code", "message", "hint"} <= set(found)
    assert found["severity"] == "error"
    if wrong.place is not None:
        assert (found["line"], found["column"]) == wrong.place
    assert wrong.remedy in f"{found['message']} {found['hint']}"


def test_names_of_63_letters_and_files_that_say_nothing_are_fine(mesh: Mesh) -> None:
    folder = mesh.folder / "p"
    folder.mkdir()
    (folder / "long.yaml").write_text(NAMED.replace("NAME", "a" * 63))
    (folder / "empty.yaml").write_text("")
    (folder / "comment.yaml").write_text("# later\n---\n---\n# more\n")
    (folder / "marked.yml").write_bytes(b"\xef\xbb\xbf" + DOCUMENT.replace("\n", "\r\n").encode())
    ran = mesh("validate", "p", "--output", "json")
    assert (ran.code, ran.json) == (0, {"documents": 2, "diagnostics": []})


def test_what_cannot_be_read_is_refused_by_name(mesh: Mesh) -> None:
    encodings = ("latin-1", "utf-16", "utf-32")
    for encoding in encodings:
        (mesh.folder / f"{encoding}.yaml").write_bytes(f"# für\n{DOCUMENT}".encode(encoding))
    (mesh.folder / "document.yaml").write_text(f"{DOCUMENT}# {'x' * 1024 * 1024}\n")
    (mesh.folder / "file.yaml").write_text(f"# {'x' * 1022}\n---\n" * 1024 * 8)
    ran = mesh("validate", ".", "--output", "json")
    assert {Path(each["file"]).name: each["code"] for each in ran.json["diagnostics"]} == {
        "document.yaml": "document-too-large",
        "file.yaml": "file-too-large",
        **{f"{encoding}.yaml": "not-utf8" for encoding in encodings},
    }


def test_all_mistakes_are_told_in_one_run_as_text_sorted_by_place(mesh: Mesh) -> None:
    folder = mesh.folder / "p"
    folder.mkdir()
    (folder / "b.yaml").write_text(DOCUMENT.replace("http", "htp") + "---\n" + DOCUMENT)
    (folder / "a.yaml").write_text("kind: Service\n---\n" + NAMED.replace("NAME", "Api"))
    ran = mesh("apply", "p", "--yes")
    assert ran.code == 1
    assert ran.out == ""
    found = re.findall(r"^(?:p/)?(\w+\.yaml:\d+:\d+): error\[[a-z-]+\]: .+$", ran.err, re.MULTILINE)
    assert found == ["a.yaml:1:1", "a.yaml:5:18", "b.yaml:4:18", "b.yaml:8:18"]
    assert re.search(r"^4 errors in 4 documents; nothing was written$", ran.err, re.MULTILINE)
    assert mesh("history", "--output", "json").json == []


FINE = {
    "mesh": mine("Mesh", "any-name", "{mtls: {mode: strict}, certificates: {lifetime: 10s}}")
    + access("n", "from: [{namespace: ops}]", "kind: Namespace, name: n0")
    + access("m", "from: [{service: web, namespace: shop}]", "kind: Mesh"),
    "policies add up": API
    + access("a", "from: [{service: a}]")
    + access("b", "to: [{methods: [GET]}]"),
    "paths": API
    + access(
        "a",
        'to: [{paths: [{exact: /a}, {prefix: /b}, {regex: "/c/[0-9]+"}], '
        "headers: [{name: a, value: b}]}]",
    ),
    "an external route": API
    + mine(
        "ExternalService",
        "out",
        "{protocol: http, port: 80, endpoints: [{address: 192.0.2.7, port: 80}]}",
    )
    + route("{backendRefs: [{group: mesh, kind: ExternalService, name: out, port: 80}]}"),
    "traffic": API
    + mine(
        "TrafficPolicy",
        "t",
        "{targetRefs: [{kind: Service, name: api}], loadBalancer: {algorithm: latency-aware}, "
        "retry: {attempts: 2, perTryTimeout: 250ms, on: [gateway-error], budget: {percent: 20}}, "
        "timeouts: {connect: 1s, request: 1h30m, idle: 10s}, limits: {connections: 10}}",
    ),
    "dependencies": API + service("web", "protocol: http, dependencies: [api, {service: api}]"),
}


def test_what_the_contract_offers_is_accepted(shared: Mesh) -> None:
    folder = shared.folder / "fine"
    folder.mkdir()
    for number, (name, text) in enumerate(FINE.items()):
        (folder / f"{name}.yaml").write_text(in_namespace(text, f"n{number}"))
    ran = shared("validate", "fine", "--output", "json")
    assert ran.json["diagnostics"] == []
    assert ran.code == 0


def test_a_reference_to_elsewhere_is_an_error_and_with_partial_a_warning(shared: Mesh) -> None:
    text = access("a", "from: [{service: web}]")
    ran = [
        shared("validate", "-", *flags, "--output", "json", stdin=text)
        for flags in ((), ("--partial",))
    ]
    assert [each.code for each in ran] == [1, 0]
    severities = [[found["severity"] for found in each.json["diagnostics"]] for each in ran]
    assert severities == [["error"], ["warning"]]
