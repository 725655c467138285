"""What a schema cannot say about one document: Gateway API's validations, and our own."""

import pytest

from tests.support.documents import SERVICES, access, check, codes, route, together, traffic


def errors(text: str) -> list[tuple[str, str]]:
    return [(item.code, item.message) for item in check(text, partial=True).errors]


def mesh_v1(kind: str, spec: str) -> str:
    return f"apiVersion: mesh/v1\nkind: {kind}\nmetadata: {{name: api}}\nspec: {spec}\n"


MODIFY = "[{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {%s}}]}]"
PREFIX = "urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /x}}"
REWRITE = "filters: [{type: URLRewrite, " + PREFIX + "}]"


@pytest.mark.parametrize(
    "rules",
    [
        "[{matches: [{path: {type: Exact, value: /}}]}]",
        '[{matches: [{path: {value: "/a%20b/..c/.d;e=f/~"}}]}]',
        "[{matches: [{path: {type: RegularExpression, value: '/[a-z]{2}//'}}]}]",
        "[{matches: [{headers: [{name: a, value: b}, {name: c, value: d}]}]}]",
        "[{matches: [{queryParams: [{name: a, value: b}, {name: A, value: d}]}]}]",
        f"[{{{REWRITE}}}]",
        f"[{{matches: [{{path: {{value: /a}}}}], {REWRITE}}}]",
        f"[{{backendRefs: [{{name: a, port: 80, {REWRITE}}}]}}]",
        "[{timeouts: {request: 1s, backendRequest: 1s}}]",
        "[{timeouts: {request: 0s, backendRequest: 1s}}]",
        "[{name: a}, {name: b}, {}]",
        "[{filters: [{type: RequestRedirect, requestRedirect: {}}]}]",
        "[{backendRefs: [{group: mesh, kind: ExternalService, name: a}]}]",
        MODIFY % "set: [{name: a, value: b}], add: [{name: b, value: c}], remove: [c]",
    ],
)
def test_routes_that_gateway_api_allows(rules: str) -> None:
    assert errors(route(rules)) == []


@pytest.mark.parametrize(
    ("rules", "code", "message"),
    [
        ("[{matches: [{path: {value: a}}]}]", "bad-format", 'does not begin with "/"'),
        ("[{matches: [{path: {value: ''}}]}]", "bad-format", 'does not begin with "/"'),
        *(
            (f"[{{matches: [{{path: {{value: '{path}'}}}}]}}]", "bad-format", "contains")
            for path in ("/a//b", "/a/./b", "/a/../b", "/a/..", "/a/.", "/a%2fb", "/a%2Fb", "/a#b")
        ),
        ("[{matches: [{path: {value: '/a b'}}]}]", "bad-format", "a character that no path"),
        ("[{matches: [{path: {value: '/a%zz'}}]}]", "bad-format", "a character that no path"),
        ("[{matches: [{path: {value: '/a?b'}}]}]", "bad-format", "a character that no path"),
        ("[{matches: [{path: {type: RegularExpression, value: '('}}]}]", "bad-regex", "closed"),
        ("[{matches: [{path: {type: RegularExpression, value: ''}}]}]", "bad-regex", "empty"),
        (
            "[{matches: [{headers: [{name: a, value: '(?=b)', type: RegularExpression}]}]}]",
            "bad-regex",
            "lookahead",
        ),
        (
            "[{matches: [{queryParams: [{name: a, value: '[', type: RegularExpression}]}]}]",
            "bad-regex",
            "closed",
        ),
        (
            "[{matches: [{headers: [{name: X-A, value: b}, {name: x-a, value: c}]}]}]",
            "duplicate-item",
            '"x-a" is listed twice in one match',
        ),
        (
            "[{matches: [{queryParams: [{name: a, value: b}, {name: a, value: c}]}]}]",
            "duplicate-item",
            '"a" is listed twice in one match',
        ),
        ("[{name: a}, {name: a}]", "duplicate-item", 'two rules are named "a"'),
        (
            "[{filters: [{type: RequestRedirect, requestRedirect: {}}],"
            " backendRefs: [{name: a, port: 80}]}]",
            "not-allowed",
            "a rule that redirects sends nothing",
        ),
        (
            "[{filters: [{type: RequestRedirect, requestRedirect: {}},"
            " {type: URLRewrite, urlRewrite: {}}]}]",
            "not-allowed",
            "exclude each other",
        ),
        (
            "[{filters: [{type: URLRewrite, urlRewrite: {}},{type: URLRewrite, urlRewrite: {}}]}]",
            "duplicate-item",
            "a second URLRewrite filter",
        ),
        ("[{filters: [{type: URLRewrite}]}]", "missing-field", 'needs "urlRewrite"'),
        (
            "[{filters: [{type: URLRewrite, urlRewrite: {}, requestRedirect: {}}]}]",
            "not-allowed",
            'has no "requestRedirect"',
        ),
        (
            f"[{{matches: [{{path: {{type: Exact, value: /a}}}}], {REWRITE}}}]",
            "not-allowed",
            "needs exactly one match, of type PathPrefix",
        ),
        (
            f"[{{matches: [{{path: {{value: /a}}}}, {{path: {{value: /b}}}}], {REWRITE}}}]",
            "not-allowed",
            "needs exactly one match, of type PathPrefix",
        ),
        (
            "[{filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath}}}]}]",
            "missing-field",
            'ReplaceFullPath needs "replaceFullPath"',
        ),
        (
            "[{filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath,"
            " replaceFullPath: /a, replacePrefixMatch: /b}}}]}]",
            "not-allowed",
            'ReplaceFullPath has no "replacePrefixMatch"',
        ),
        (
            "[{filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath,"
            " replaceFullPath: '/a?b'}}}]}]",
            "bad-format",
            "is no path",
        ),
        (
            MODIFY % "set: [{name: A, value: b}], add: [{name: a, value: c}]",
            "duplicate-item",
            'header "a" is changed twice',
        ),
        (MODIFY % "remove: [a, A]", "duplicate-item", "changed twice"),
        (MODIFY % "remove: [Host]", "reserved-header", '"host"'),
        *(
            (MODIFY % f"remove: [{name}]", "reserved-header", "belongs to the proxies")
            for name in ("x-envoy-a", "X-Mesh-Reason", "x-forwarded-client-cert", "connection")
        ),
        ("[{backendRefs: [{name: a}]}]", "missing-field", 'a Service backend needs "port"'),
        (
            "[{backendRefs: [{kind: ExternalService, name: a}]}]",
            "unknown-value",
            'kind ExternalService is not of group ""',
        ),
        (
            "[{backendRefs: [{group: mesh, name: a, port: 80}]}]",
            "unknown-value",
            'kind Service is not of group "mesh"',
        ),
        (
            "[{timeouts: {request: 1s, backendRequest: 2s}}]",
            "out-of-range",
            "backendRequest is longer than request",
        ),
        (
            "[" + ", ".join(["{matches: [" + "{method: GET}, " * 60 + "]}"] * 3) + "]",
            "wrong-count",
            "180 matches in one route, at most 128",
        ),
    ],
)
def test_routes_that_gateway_api_refuses(rules: str, code: str, message: str) -> None:
    found = errors(route(rules))
    assert [item[0] for item in found] == [code]
    assert message in found[0][1]


@pytest.mark.parametrize(
    ("parents", "code", "message"),
    [
        ("{name: a}", "missing-field", 'needs "kind"'),
        ("{kind: Service, name: a}", "missing-field", 'needs "group"'),
        ("{group: mesh, kind: Service, name: a}", "unknown-value", "is not of group"),
        ('{group: "", kind: ExternalService, name: a}', "unknown-value", "is not of group"),
        (
            '{group: "", kind: Service, name: a}, {group: "", kind: Service, name: a}',
            "duplicate-item",
            'parent "a" is listed twice',
        ),
    ],
)
def test_parents_must_say_what_they_are(parents: str, code: str, message: str) -> None:
    text = route("[{}]").replace('{group: "", kind: Service, name: api}', parents)
    found = errors(text)
    assert [item[0] for item in found] == [code]
    assert message in found[0][1]


def test_a_parent_on_two_ports_is_two_parents() -> None:
    pair = (
        '{group: "", kind: Service, name: a, port: 1}, {group: "", kind: Service, name: a, port: 2}'
    )
    assert errors(route("[{}]").replace('{group: "", kind: Service, name: api}', pair)) == []


@pytest.mark.parametrize(
    "path",
    ["/a;b", "/a%3Bb", "/a%2fb", "/a%5cb", "/a\\\\b", "//a", "/a/../b", "/a/.", "/a?b", "/a b"],
)
def test_an_access_path_must_be_as_requests_are(path: str) -> None:
    for kind in ("exact", "prefix"):
        text = access(f'[{{name: a, action: deny, to: [{{paths: [{{{kind}: "{path}"}}]}}]}}]')
        assert [code for code, _ in errors(text)] == ["unsafe-path"]


@pytest.mark.parametrize(
    ("rules", "code"),
    [
        ("[{name: a, action: deny, to: [{paths: [{regex: '/a;.*'}]}]}]", "unsafe-path"),
        ("[{name: a, action: deny, to: [{paths: [{regex: '(?=a)'}]}]}]", "bad-regex"),
        (
            "[{name: a, action: deny, to:"
            " [{headers: [{name: a, value: b}, {name: A, value: c}]}]}]",
            "duplicate-item",
        ),
        ("[{name: a, action: deny}, {name: a, action: allow}]", "duplicate-item"),
    ],
)
def test_access_rules_that_make_no_sense(rules: str, code: str) -> None:
    assert [item for item, _ in errors(access(rules))] == [code]


def test_a_policy_targets_its_own_namespace_and_each_target_once() -> None:
    rules = "[{name: a, action: deny}]"
    assert errors(access(rules, "{kind: Namespace, name: shop}", "shop")) == []
    foreign = access(rules, "{kind: Namespace, name: ops}", "shop")
    assert [code for code, _ in errors(foreign)] == ["foreign-namespace"]
    twice = access(rules, "{kind: Service, name: a}, {kind: Service, name: a}")
    assert [code for code, _ in errors(twice)] == ["duplicate-item"]


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ("retry: {attempts: 1}", "missing-field"),
        ("retry: {attempts: 1, on: [reset], backoff: {base: 1s}}", "out-of-range"),
        ("retry: {attempts: 1, on: [reset], backoff: {base: 2s, max: 1s}}", "out-of-range"),
        ("outlierDetection: {interval: 1s}", "missing-field"),
        ("outlierDetection: {consecutive5xx: 1, ejection: {max: 1s}}", "out-of-range"),
    ],
)
def test_traffic_settings_that_make_no_sense(spec: str, code: str) -> None:
    assert [item for item, _ in errors(traffic(spec))] == [code]


@pytest.mark.parametrize(
    "spec",
    [
        "retry: {attempts: 1, statuses: [503]}",
        "retry: {attempts: 1, on: [reset], backoff: {base: 1s, max: 1s}}",
        "loadBalancer: {algorithm: latency-aware}, outlierDetection: {interval: 2s}",
    ],
)
def test_traffic_settings_that_do(spec: str) -> None:
    assert errors(traffic(spec)) == []


@pytest.mark.parametrize(
    ("kind", "spec", "code"),
    [
        ("Mesh", "{certificates: {lifetime: 9s}}", "out-of-range"),
        (
            "ExternalService",
            "{protocol: http, endpoints: [{address: 999.1.1.1, port: 1}]}",
            "bad-format",
        ),
        (
            "ExternalService",
            "{protocol: http, endpoints: [{address: db.example.org, port: 1}]}",
            "bad-format",
        ),
        (
            "ExternalService",
            "{protocol: http, endpoints: [{address: 1.1.1.1, port: 1},"
            " {address: 1.1.1.1, port: 1}]}",
            "duplicate-item",
        ),
        (
            "Service",
            "{protocol: http, instances: {service: base}, dependencies: [x]}",
            "not-allowed",
        ),
    ],
)
def test_other_documents_that_make_no_sense(kind: str, spec: str, code: str) -> None:
    assert [item for item, _ in errors(mesh_v1(kind, spec))] == [code]


def test_rules_speak_beside_a_broken_schema() -> None:
    text = together(SERVICES, route("[{name: a, x: 1}, {name: b}, {name: b}]"))
    assert codes(text) == ["unknown-field", "duplicate-item"]


def test_annotations_of_the_mesh_are_not_remarks() -> None:
    text = together(SERVICES, route("[{backendRefs: [{name: api, port: 80}]}]"))
    given = text.replace(
        "metadata: {name: api}\nspec:\n",
        "metadata: {name: api, annotations: {mesh/expires: 1h, mesh/x: a, team: b}}\nspec:\n",
    )
    assert codes(given) == ["not-supported-yet", "unknown-field"]
