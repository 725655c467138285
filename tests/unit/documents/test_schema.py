"""One document against its kind's schema: every mistake in words, at its place."""

import json
from typing import cast

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesh.diagnostics import Severity
from mesh.documents.parser import SourceText, parse
from mesh.documents.schema import API_VERSIONS, Schema, _validator, load
from mesh.documents.values import Value
from mesh.documents.wording import _WORDS
from tests.support.documents import KINDS, ROOT, check, codes, documents_of, found


def service(spec: str, metadata: str = "{name: api}") -> str:
    return f"apiVersion: mesh/v1\nkind: Service\nmetadata: {metadata}\nspec: {spec}\n"


def policy(more: str) -> str:
    head = "apiVersion: mesh/v1\nkind: TrafficPolicy\nmetadata: {name: api}\n"
    spec = f"spec:\n  targetRefs: [{{kind: Service, name: api}}]\n  {more}\n"
    return f"{service('{protocol: http}')}---\n{head}{spec}"


def test_all_mistakes_of_a_document_come_at_once() -> None:
    text = """\
apiVersion: mesh/v1
kind: TrafficPolicy
metadata: {name: API}
spec:
  targetRefs: [{kind: Servic, name: api, namespace: x}]
  retires: {attempts: 3}
  retry: {attempts: "3", on: [tiemout], perTryTimeout: 0s}
  outlierDetection: of
  timeouts: {request: 10 seconds}
  hedge: 3
  limits: []
"""
    assert found(text) == [
        ("a.yaml:3:18", "bad-format"),
        ("a.yaml:5:23", "unknown-value"),
        ("a.yaml:5:42", "not-allowed"),
        ("a.yaml:6:3", "unknown-field"),
        ("a.yaml:7:21", "wrong-type"),
        ("a.yaml:7:31", "unknown-value"),
        ("a.yaml:7:56", "bad-format"),
        ("a.yaml:8:21", "bad-format"),
        ("a.yaml:9:23", "bad-format"),
        ("a.yaml:10:3", "not-supported-yet"),
        ("a.yaml:11:11", "wrong-type"),
    ]


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (
            service("{protcol: http}"),
            '"protcol" is not a field of Service.spec',
            'did you mean "protocol"?',
        ),
        (
            service("{protocol: http, zzz: 1}"),
            '"zzz" is not a field of Service.spec',
            "its fields are protocol, port, instances, dependencies",
        ),
        (
            service('{protocol: http, port: "80"}'),
            'Service.spec.port must be a whole number, not "80"',
            "write it without quotes",
        ),
        (
            service("{protocol: http, instances: {meta: {version: 1.0}}}"),
            "Service.spec.instances.meta.version must be text, not 1.0",
            'quote it: "1.0"',
        ),
        (service("{port: 80}"), 'Service.spec needs "protocol"', "one of http, http2, grpc, tcp"),
        (
            service("{protocol: tcp}"),
            'Service.spec needs "port"',
            "port: only for http it is 80 by default",
        ),
        (
            service("{protocol: HTTP}"),
            'Service.spec.protocol is "HTTP", not one of http, http2, grpc, tcp',
            'did you mean "http"?',
        ),
        (
            service("{protocol: http, port: 0}"),
            "Service.spec.port is 0, not between 1 and 65535",
            "",
        ),
        (
            service("{protocol: http, instances: {tags: [a, a]}}"),
            'Service.spec.instances.tags has "a" twice',
            "keep one of the two",
        ),
        (
            service("{protocol: http, dependencies: {service: a}}"),
            "Service.spec.dependencies must be a list, not a mapping",
            'begin each item with "- "',
        ),
        (
            service("{protocol: http}", "{}"),
            'Service.metadata needs "name"',
            "such as name: api",
        ),
        (service("{protocol: http}") + "x: 1\n", '"x" is not a field of Service', None),
        (
            service("").replace("spec: ", ""),
            'Service needs "spec"',
            "such as spec: {protocol: http}",
        ),
        (
            service("") + "# nothing",
            "Service.spec must be a mapping, not nothing",
            "such as {protocol: http}",
        ),
        (
            service("{protocol: http, dependencies: api}"),
            'Service.spec.dependencies must be a list, not "api"',
            "write [api]",
        ),
        (
            policy("timeouts: {request: 10}"),
            "TrafficPolicy.spec.timeouts.request must be text, not 10",
            'write a duration such as "250ms", "10s" or "1h30m"',
        ),
        (
            policy("loadBalancer: random"),
            'TrafficPolicy.spec.loadBalancer must be a mapping, not "random"',
            "such as {algorithm: latency-aware}",
        ),
    ],
)
def test_a_mistake_says_what_is_wrong_and_what_to_do(
    text: str, message: str, hint: str | None
) -> None:
    (item,) = check(text).diagnostics
    assert item.message == message
    if hint is not None:
        assert item.hint == hint


@pytest.mark.parametrize(
    ("head", "place", "code", "hint"),
    [
        ("apiVersion: mesh/v1\nkind: Servce", "2:7", "unknown-kind", 'did you mean "Service"?'),
        ("apiVersion: mesh/v1\nkind: Foo", "2:7", "unknown-kind", "the kinds are Mesh, Service"),
        ("apiVersion: mesh/v2\nkind: Service", "1:13", "unknown-api-version", 'write "mesh/v1"'),
        ("apiVersion: v1\nkind: Service", "1:13", "unknown-api-version", "this is a document of"),
        (
            "apiVersion: networking.istio.io/v1\nkind: VirtualService",
            "2:7",
            "unknown-kind",
            "its counterpart here: HTTPRoute",
        ),
        ("apiVersion: v1\nkind: ConfigMap", "2:7", "unknown-kind", "this is a document of Kube"),
        (
            "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: HTTPRoute",
            "1:13",
            "unknown-api-version",
            'write "gateway.networking.k8s.io/v1"',
        ),
        ("kind: Service", "1:1", "missing-field", "the kinds are"),
        ("apiVersion: mesh/v1\nkind: 3", "2:7", "missing-field", "the kinds are"),
        ("apiVersion: mesh/v1\nkind: [a]\n", "2:7", "missing-field", "the kinds are"),
        *(
            (f"apiVersion: x\nkind: {kind}", "2:7", "not-supported-yet", "")
            for kind in (
                "GRPCRoute",
                "TCPRoute",
                "TLSRoute",
                "JWTPolicy",
                "RateLimitPolicy",
                "FaultPolicy",
                "Gateway",
                "TelemetryPolicy",
                "PolicyTest",
            )
        ),
    ],
)
def test_kind_and_version_are_checked_first(head: str, place: str, code: str, hint: str) -> None:
    (item,) = check(head).diagnostics
    assert (str(item.position), item.code) == (f"a.yaml:{place}", code)
    assert item.hint.startswith(hint)


@pytest.mark.parametrize("version", ["v1beta1", "v1"])
def test_a_reference_grant_is_accepted_and_said_to_mean_nothing(version: str) -> None:
    grant = (
        f"apiVersion: gateway.networking.k8s.io/{version}\nkind: ReferenceGrant\n"
        "metadata: {name: api}\nspec: {from: [], to: []}\n"
    )
    result = check(grant)
    (item,) = result.diagnostics
    assert (item.code, item.severity) == ("ignored-field", Severity.WARNING)
    assert "AccessPolicy" in item.hint
    assert (result.policies, result.documents) == ((), 1)
    assert codes("apiVersion: mesh/v1\nkind: ReferenceGrant\n") == ["unknown-kind"]


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("Mesh", "{mtls: {mode: permissive}}"),
        ("Mesh", "{outbound: {default: passthrough}}"),
        ("Mesh", "{telemetry: {}}"),
        ("Mesh", "{expires: 1h}"),
        ("Service", "{protocol: tls, port: 443}"),
        ("Service", "{protocol: http, healthCheck: {http: {path: /}}}"),
        ("Service", "{protocol: http, expires: 1h}"),
        ("ExternalService", "{protocol: http, endpoints: [{address: 1.2.3.4, port: 1}], dns: []}"),
        (
            "ExternalService",
            "{protocol: http, endpoints: [{address: 1.2.3.4, port: 1}], instances: {}}",
        ),
        ("ExternalService", "{protocol: http, endpoints: [{address: 1.2.3.4, port: 1}], tls: {}}"),
        ("TrafficPolicy", "{targetRefs: [{kind: HTTPRoute, name: a}]}"),
        (
            "TrafficPolicy",
            "{targetRefs: [{kind: Service, name: a}], loadBalancer: {algorithm: maglev}}",
        ),
        *(
            ("TrafficPolicy", f"{{targetRefs: [{{kind: Service, name: a}}], {name}: {{}}}}")
            for name in ("locality", "slowStart", "hedge", "circuitBreaker", "failover", "expires")
        ),
        *(
            (
                "AccessPolicy",
                "{targetRefs: [{kind: Service, name: a}],"
                f" rules: [{{name: a, action: allow, from: [{{{caller}}}]}}]}}",
            )
            for caller in ("cidr: 1.2.3.0/24", "trustDomain: x", "jwt: {}")
        ),
        (
            "AccessPolicy",
            "{targetRefs: [{kind: Service, name: a}],"
            ' rules: [{name: a, action: allow, to: [{paths: [{template: "/{a}"}]}]}]}',
        ),
        *(
            (
                "HTTPRoute",
                '{parentRefs: [{group: "", kind: Service, name: a}], rules: [' + rule + "]}",
            )
            for rule in (
                "{retry: {attempts: 1}}",
                "{sessionPersistence: {}}",
                "{filters: [{type: RequestMirror, requestMirror: {}}]}",
                "{filters: [{type: CORS, cors: {}}]}",
                "{filters: [{type: ExtensionRef, extensionRef: {}}]}",
            )
        ),
        ("HTTPRoute", '{parentRefs: [{group: "", kind: Service, name: a, sectionName: x}]}'),
        ("HTTPRoute", '{parentRefs: [{group: "", kind: Gateway, name: a}]}'),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(kind: str, spec: str) -> None:
    text = f"apiVersion: {API_VERSIONS[kind]}\nkind: {kind}\nmetadata: {{name: a}}\nspec: {spec}\n"
    (item,) = check(text, partial=True).errors
    assert item.code == "not-supported-yet"
    assert item.hint


def test_what_kubernetes_adds_is_left_out_with_a_warning() -> None:
    text = """\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: a, uid: x, managedFields: [{}], labels: {a: b}}
spec: {parentRefs: [{group: "", kind: Service, name: a}]}
status: {parents: []}
"""
    result = check(text, partial=True)
    ignored = [
        item.message.split('"')[1] for item in result.diagnostics if "left out" in item.message
    ]
    assert ignored == ["uid", "managedFields", "status"]
    assert result.errors == ()
    (parsed,) = result.policies
    assert json.loads(parsed.canonical)["metadata"] == {
        "name": "a",
        "namespace": "default",
        "labels": {"a": "b"},
    }


@pytest.mark.parametrize("kind", KINDS)
def test_schemas_are_valid_and_explain_every_field(kind: str) -> None:
    schema = load(kind)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["title"] == kind
    lacking = [path for path, rule in _properties(schema, "") if not rule.get("description")]
    assert lacking == []
    for example in cast("list[Value]", schema["examples"]):
        assert _validator(kind).is_valid(example)


@pytest.mark.parametrize("kind", KINDS)
def test_every_rule_of_a_schema_has_words(kind: str) -> None:
    keywords = {word for word in _keywords(load(kind)) if not word.startswith("x-")}
    silent = {"properties", "items", "if", "then", "additionalProperties", "$schema"}
    annotations = {"title", "description", "examples", "default", "doNotSuggest"}
    assert keywords - silent - annotations <= set(_WORDS)
    for rule in _schemas(load(kind)):
        if "pattern" in rule:
            assert rule.get("x-pattern-words")


def test_the_schema_files_resolve_for_an_editor() -> None:
    """Each `$ref` is a file beside it, or a definition in the same file."""
    folder = ROOT / "schemas"
    for file in folder.glob("*.json"):
        document = json.loads(file.read_text())
        assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        for rule in _schemas(document):
            if "$ref" in rule:
                name, _, pointer = cast("str", rule["$ref"]).partition("#")
                node = json.loads((folder / name).read_text()) if name else document
                for step in pointer.split("/")[1:]:
                    node = node[step]
                assert isinstance(node, dict)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
@pytest.mark.parametrize("kind", KINDS)
def test_the_validator_agrees_with_the_reference(kind: str, data: st.DataObject) -> None:
    document = data.draw(documents_of(kind))
    _break(document, data)
    reference = jsonschema.Draft202012Validator(load(kind))
    assert _validator(kind).is_valid(document) == reference.is_valid(document)


def test_a_pattern_does_not_allow_a_line_break_at_the_end() -> None:
    assert codes(service("{protocol: http}", '{name: "api\\n"}')) == ["bad-format"]


def test_a_document_with_unreadable_parts_is_not_judged_further() -> None:
    text = service("{protocol: 1e999, port: 99999}")
    assert codes(text) == ["bad-number"]
    (document,) = parse([SourceText("a", text.encode())]).documents
    assert not document.is_sound
    assert not document.is_whole


def test_a_document_that_is_whole_is_judged_beside_what_the_parser_refused() -> None:
    assert codes(service("{protocol: &x htp}")) == ["anchors-refused", "unknown-value"]
    assert codes(service("{protocol: http, protocol: tcp, prot: 1}")) == [
        "duplicate-key",
        "unknown-field",
    ]


def _break(document: Value, data: st.DataObject) -> None:
    """Perhaps replace one value somewhere, or add a field."""
    places: list[tuple[dict[str, Value], str]] = []

    def visit(node: Value) -> None:
        if isinstance(node, dict):
            places.extend((node, name) for name in node)
            for item in node.values():
                visit(item)
        elif isinstance(node, list):
            for item in node:
                visit(item)

    visit(document)
    values = st.sampled_from([None, 1, -1, "", "x", [], {}, True, 1.5, "a b"])
    if data.draw(st.booleans()):
        node, name = data.draw(st.sampled_from(places))
        node[data.draw(st.sampled_from([name, "unknown"]))] = cast("Value", data.draw(values))


def _schemas(node: object) -> list[Schema]:
    """Every schema object below a node (and some mappings of them)."""
    if isinstance(node, list):
        return [rule for item in node for rule in _schemas(item)]
    if not isinstance(node, dict):
        return []
    inner = [rule for name, item in node.items() if name != "examples" for rule in _schemas(item)]
    return [cast("Schema", node), *inner]


def _properties(schema: Schema, path: str) -> list[tuple[str, Schema]]:
    result: list[tuple[str, Schema]] = []
    for name, rule in cast("dict[str, Schema]", schema.get("properties", {})).items():
        result += [(f"{path}.{name}", rule), *_properties(rule, f"{path}.{name}")]
        items = rule.get("items")
        if isinstance(items, dict):
            result += _properties(items, f"{path}.{name}[]")
    return result


def _keywords(schema: Schema) -> set[str]:
    words = set(schema)
    for name in ("items", "if", "then", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            words |= _keywords(cast("Schema", schema[name]))
    for rule in cast("dict[str, Schema]", schema.get("properties", {})).values():
        words |= _keywords(rule)
    return words
