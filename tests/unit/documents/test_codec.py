"""Documents as typed policies and canonical bytes."""

import json
import random
import re
from datetime import timedelta
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from mesh.documents.codec import canonical, decode, digest, policy_of, to_yaml
from mesh.documents.fields import span
from mesh.documents.front_end import front_end
from mesh.documents.index import Parsed
from mesh.documents.parser import SourceText, parse
from mesh.documents.references import references
from mesh.documents.schema import check as check_schema
from mesh.documents.values import Value
from mesh.errors import Corrupted
from mesh.model.identity import ServiceName
from mesh.model.policy import (
    AccessPathType,
    AccessPolicy,
    Action,
    Algorithm,
    Caller,
    Default,
    ExternalService,
    HTTPMatch,
    HTTPRoute,
    HTTPRule,
    Kind,
    Limits,
    Mesh,
    OutlierDetection,
    ParentRef,
    Protocol,
    ReplacePrefixMatch,
    Retry,
    RetryOn,
    Service,
    Target,
    TrafficPolicy,
    ValueMatch,
)
from tests.support.documents import KINDS, ROOT, access, check, documents_of, route, traffic


def one(text: str) -> Parsed:
    result = check(text, partial=True)
    assert result.errors == ()
    (parsed,) = result.policies
    return parsed


def mesh_v1(kind: str, spec: str) -> str:
    return f"apiVersion: mesh/v1\nkind: {kind}\nmetadata: {{name: api}}\nspec: {spec}\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("250ms", timedelta(milliseconds=250)),
        ("10s", timedelta(seconds=10)),
        ("1h30m", timedelta(minutes=90)),
        ("1m1s1ms", timedelta(minutes=1, seconds=1, milliseconds=1)),
        ("0s", timedelta()),
    ],
)
def test_durations(text: str, expected: timedelta) -> None:
    assert span(text) == expected


def test_a_mesh_has_its_defaults() -> None:
    parsed = one(mesh_v1("Mesh", "{}"))
    assert parsed.policy == Mesh(key=parsed.key)
    policy = one(
        mesh_v1(
            "Mesh", "{trustDomain: a.org, access: {default: allow}, certificates: {lifetime: 1h}}"
        )
    ).policy
    assert isinstance(policy, Mesh)
    assert (policy.trust_domain, policy.access_default) == ("a.org", Default.ALLOW)
    assert policy.certificate_lifetime == timedelta(hours=1)


def test_a_service_and_its_view() -> None:
    plain = one(mesh_v1("Service", "{protocol: http}")).policy
    assert isinstance(plain, Service)
    assert (plain.protocol, plain.port, plain.dependencies) == (Protocol.HTTP, 80, None)
    assert plain.selector.service == plain.name
    view = one(
        mesh_v1(
            "Service",
            "{protocol: grpc, port: 9000, instances: {service: base, namespace: shop,"
            " meta: {version: v2}, tags: [b, a], datacenter: eu}}",
        )
    ).policy
    assert isinstance(view, Service)
    assert view.identity_of == ServiceName("shop", "base")
    assert view.selector.meta == {"version": "v2"}
    assert view.selector.tags == {"a", "b"}
    assert view.selector.datacenter == "eu"


def test_dependencies_are_names_or_pairs() -> None:
    policy = one(
        mesh_v1("Service", "{protocol: http, dependencies: [db, {service: a, namespace: b}]}")
    ).policy
    assert isinstance(policy, Service)
    assert policy.dependencies == (ServiceName("default", "db"), ServiceName("b", "a"))
    nothing = one(mesh_v1("Service", "{protocol: http, dependencies: []}")).policy
    assert isinstance(nothing, Service)
    assert nothing.dependencies == ()


def test_an_external_service() -> None:
    policy = one(
        mesh_v1("ExternalService", '{protocol: http, endpoints: [{address: "::1", port: 1}]}')
    ).policy
    assert isinstance(policy, ExternalService)
    assert [(item.address, item.port) for item in policy.endpoints] == [("::1", 1)]


def test_a_route_has_gateway_apis_defaults() -> None:
    policy = one(route("[{backendRefs: [{name: b, port: 80}]}, {}]")).policy
    assert isinstance(policy, HTTPRoute)
    assert policy.parents == (ParentRef(Target(Kind.SERVICE, "default", "api")),)
    first, second = policy.rules
    assert first.matches == (HTTPMatch(),)
    assert first.backends[0].target == Target(Kind.SERVICE, "default", "b")
    assert first.backends[0].weight == 1
    assert second == HTTPRule()
    bare = one(route("").replace("rules:", "")).policy
    assert isinstance(bare, HTTPRoute)
    assert bare.rules == (HTTPRule(),)


def test_a_route_keeps_everything_it_says() -> None:
    policy = one(
        route(
            """
  - name: r
    matches:
      - path: {type: Exact, value: /a}
        method: GET
        headers: [{name: X-Beta, value: "1"}]
        queryParams: [{name: Q, value: a.*, type: RegularExpression}]
    filters:
      - type: ResponseHeaderModifier
        responseHeaderModifier:
          {set: [{name: A, value: b}], add: [{name: c, value: d}], remove: [e]}
    timeouts: {request: 2s, backendRequest: 1s}
    backendRefs:
      - {group: mesh, kind: ExternalService, name: x, namespace: n, weight: 0}
  - matches: [{path: {value: /old}}]
    filters:
      - type: URLRewrite
        urlRewrite: {hostname: h, path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}
  - filters: [{type: RequestRedirect, requestRedirect: {port: 8443}}]
"""
        )
    ).policy
    assert isinstance(policy, HTTPRoute)
    first, second, third = policy.rules
    (match,) = first.matches
    assert (match.path.value, match.method) == ("/a", "GET")
    assert match.headers == (ValueMatch("x-beta", "1"),)
    assert match.query[0].name == "Q"
    modifier = first.filters.response_headers
    assert modifier is not None
    assert (modifier.set, modifier.add, modifier.remove) == ((("A", "b"),), (("c", "d"),), ("e",))
    assert (first.timeout, first.backend_timeout) == (timedelta(seconds=2), timedelta(seconds=1))
    assert first.backends[0].target == Target(Kind.EXTERNAL_SERVICE, "n", "x")
    assert (first.backends[0].weight, first.backends[0].port) == (0, None)
    assert second.filters.rewrite is not None
    assert second.filters.rewrite.path == ReplacePrefixMatch("/new")
    assert third.filters.redirect is not None
    assert (third.filters.redirect.status, third.filters.redirect.port) == (302, 8443)


def test_a_traffic_policy_fills_in_what_a_section_leaves_out() -> None:
    policy = one(traffic("retry: {attempts: 2, on: [reset]}, limits: {requests: 5}")).policy
    assert isinstance(policy, TrafficPolicy)
    assert policy.retry == Retry(attempts=2, on=frozenset({RetryOn.RESET}))
    assert policy.limits == Limits(requests=5)
    assert policy.outlier_detection is None
    off = one(traffic("loadBalancer: {algorithm: random}, outlierDetection: off")).policy
    assert isinstance(off, TrafficPolicy)
    assert (off.algorithm, off.outlier_detection) == (Algorithm.RANDOM, False)
    detection = one(traffic("outlierDetection: {consecutive5xx: 3, ejection: {base: 1s}}")).policy
    assert isinstance(detection, TrafficPolicy)
    assert detection.outlier_detection == OutlierDetection(
        consecutive_5xx=3, base_ejection=timedelta(seconds=1)
    )


def test_an_access_policy() -> None:
    policy = one(
        access(
            "[{name: a, action: audit,"
            " from: [{service: web}, {namespace: ops}, {service: x, namespace: y}],"
            " to: [{methods: [GET], paths: [{exact: /a}, {regex: b}],"
            " headers: [{name: X, value: v}]}]}]"
        )
    ).policy
    assert isinstance(policy, AccessPolicy)
    (rule,) = policy.rules
    assert rule.action is Action.AUDIT
    assert rule.callers == (
        Caller(namespace="default", service="web"),
        Caller(namespace="ops"),
        Caller(namespace="y", service="x"),
    )
    (operation,) = rule.operations
    assert operation.paths == ((AccessPathType.EXACT, "/a"), (AccessPathType.REGEX, "b"))
    assert operation.headers == (ValueMatch("x", "v"),)


def test_references_are_what_a_manifest_wants() -> None:
    def service(name: str) -> Target:
        return Target(Kind.SERVICE, "default", name)

    view = one(mesh_v1("Service", "{protocol: http, instances: {service: base}}")).policy
    assert references(view) == ((), (service("base"),), ())
    sending = one(route("[{backendRefs: [{name: b, port: 80}, {name: a, port: 80}]}]")).policy
    assert references(sending) == ((service("api"),), (service("a"), service("b")), ())
    assert references(one(traffic("limits: {retries: 1}")).policy) == ((service("api"),), (), ())
    rules = (
        "[{name: a, action: allow, from: [{service: web}, {namespace: ops}]},"
        " {name: b, action: deny, from: [{service: bad}]}, {name: c, action: audit}]"
    )
    targets, uses, admits = references(one(access(rules)).policy)
    assert (targets, uses) == ((service("api"),), ())
    assert {(item.kind, item.name) for item in admits} == {
        (Kind.SERVICE, "web"),
        (Kind.NAMESPACE, "ops"),
        (Kind.MESH, "mesh"),
    }
    assert references(one(mesh_v1("Mesh", "{}")).policy) == ((), (), ())


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
@pytest.mark.parametrize("kind", KINDS)
def test_what_the_schema_allows_can_be_decoded(kind: str, data: st.DataObject) -> None:
    text = _escaped(data.draw(documents_of(kind)))
    (document,) = parse([SourceText("a.yaml", text)]).documents
    assert [item for item in check_schema(document) if item.severity == "error"] == []
    content = canonical(document)
    policy = policy_of(document)
    assert decode(content, digest(content)) == policy
    references(policy)
    (again,) = parse([SourceText("b.yaml", to_yaml(content).encode())]).documents
    assert canonical(again) == content


def _escaped(document: Value) -> bytes:
    """A document in flow style, with every character that YAML cannot hold plainly escaped."""
    text = json.dumps(document, ensure_ascii=False)
    return re.sub(r"[^ -~]", lambda match: f"\\U{ord(match[0]):08x}", text).encode()


def _shuffled(node: Value, order: random.Random) -> Value:
    if isinstance(node, list):
        return [_shuffled(item, order) for item in node]
    if isinstance(node, dict):
        items = list(node.items())
        order.shuffle(items)
        return {name: _shuffled(item, order) for name, item in items}
    return node


def _examples() -> list[bytes]:
    files = sorted((ROOT / "policies").rglob("*.yaml"))
    read = parse([SourceText(file.name, file.read_bytes()) for file in files])
    return [document.text for document in read.documents]


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(_examples()), st.randoms(use_true_random=False), st.booleans())
def test_the_canonical_form_ignores_order_comments_and_spacing(
    text: bytes, order: random.Random, flow: bool
) -> None:
    (document,) = parse([SourceText("a.yaml", text)]).documents
    shuffled = cast("dict[str, Value]", _shuffled(cast("Value", document.data), order))
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = flow
    yaml.indent(mapping=order.choice([2, 4]), sequence=4, offset=2)
    path = _Buffer()
    yaml.dump(shuffled, path)
    lines = path.text.splitlines()
    spaced = "\n".join(line + ("   # a comment" if not flow else "") for line in lines)
    (again,) = parse([SourceText("b.yaml", f"\n# first\n{spaced}\n".encode())]).documents
    assert canonical(again) == canonical(document)


class _Buffer:
    """What ruamel.yaml writes to."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str | bytes) -> None:
        self.text += text if isinstance(text, str) else text.decode()


def test_a_change_of_meaning_changes_the_digest() -> None:
    base = mesh_v1("Service", "{protocol: http, port: 80}")
    same = [
        base.replace("80", "0x50"),
        base.replace("{name: api}", "{namespace: default, name: api}"),
    ]
    other = [base.replace("80", "81"), base.replace("name: api", "name: api, labels: {a: b}")]
    assert {one(text).digest for text in [base, *same]} == {one(base).digest}
    assert len({one(text).digest for text in [base, *other]}) == 3


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"kind": "Foo"}', b"\xff", b"null"])
def test_damaged_bytes_are_told_as_such(data: bytes) -> None:
    with pytest.raises(Corrupted):
        decode(data)


def test_a_wrong_digest_is_told() -> None:
    parsed = one(mesh_v1("Mesh", "{}"))
    assert decode(parsed.canonical, parsed.digest) == parsed.policy
    with pytest.raises(Corrupted, match="digest differs"):
        decode(parsed.canonical, "0" * 64)


def test_names_that_look_like_numbers_survive_yaml() -> None:
    text = mesh_v1(
        "Service", '{protocol: http, instances: {meta: {a: "1.0", b: "no", c: "0o7", d: "null"}}}'
    )
    content = one(text).canonical
    result = front_end([SourceText("a.yaml", to_yaml(content).encode())])
    assert [item.canonical for item in result.policies] == [content]
