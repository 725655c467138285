"""The whole set at once: references, duplicates, conflicts; both places shown."""

import time

import pytest

from mesh.diagnostics import Position
from mesh.documents.front_end import Result, front_end
from mesh.documents.parser import SourceText
from mesh.model.policy import PolicyKey
from mesh.model.revision import Applied, ManifestEntry
from tests.support.documents import (
    SERVICES,
    access,
    check,
    codes,
    pointed,
    route,
    together,
    traffic,
)

MESH = "{kind: Mesh}"
REQUESTS = "limits: {requests: 1}"
AWARE = "loadBalancer: {algorithm: latency-aware}"
OFF = "outlierDetection: off"
ALLOW = "[{name: a, action: allow, from: [{service: web}]}]"


def service(name: str, spec: str = "protocol: http", namespace: str = "default") -> str:
    return (
        f"apiVersion: mesh/v1\nkind: Service\n"
        f"metadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n"
    )


def view(name: str, base: str, protocol: str = "http") -> str:
    return service(name, f"protocol: {protocol}, instances: {{service: {base}}}")


def named(name: str, kind: str = "Service") -> str:
    return f"{{kind: {kind}, name: {name}}}"


def mesh(name: str = "mesh", namespace: str = "default") -> str:
    return (
        f"apiVersion: mesh/v1\nkind: Mesh\n"
        f"metadata: {{name: {name}, namespace: {namespace}}}\nspec: {{}}\n"
    )


def external(name: str, spec: str = "protocol: http") -> str:
    return (
        f"apiVersion: mesh/v1\nkind: ExternalService\nmetadata: {{name: {name}}}\n"
        f"spec: {{{spec}, endpoints: [{{address: 192.0.2.1, port: 1}}]}}\n"
    )


def test_an_unknown_backend_lists_what_is_defined() -> None:
    text = route("[{backendRefs: [{name: api-v3, port: 80}]}]")
    (item,) = check(SERVICES, text).diagnostics
    assert str(item) == (
        "b.yaml:8:33: error[unknown-backend]: "
        'HTTPRoute "api" sends to Service "api-v3", which is not defined\n'
        "  hint: defined here: api, api-v2, ledger"
    )


def test_a_long_list_keeps_the_nearest_name() -> None:
    many = together(*(service(f"service-{number:02}") for number in range(30)))
    text = route("[{backendRefs: [{name: servicee-22, port: 80}]}]")
    hint = check(many, service("api"), text).diagnostics[0].hint
    assert hint.startswith("defined here: service-22, api")
    assert hint.endswith(" and 21 more")


@pytest.mark.parametrize(
    ("backend", "hint"),
    [
        ("{name: db, port: 80}", '"db" is defined as ExternalService'),
        ("{name: other, port: 80}", '"other" is defined in namespace shop'),
        ("{name: x, namespace: ops, port: 80}", 'no Service is defined in namespace "ops"'),
    ],
)
def test_a_hint_sees_what_was_mixed_up(backend: str, hint: str) -> None:
    text = route(f"[{{backendRefs: [{backend}]}}]")
    (item,) = check(SERVICES, external("db"), service("other", namespace="shop"), text).diagnostics
    assert (item.code, item.hint) == ("unknown-backend", hint)


def test_a_part_of_a_mesh_is_warned_only() -> None:
    texts = (route("[{backendRefs: [{name: b, port: 80}]}]"), traffic("limits: {retries: 1}"))
    assert [item.severity for item in check(*texts, partial=True).diagnostics] == ["warning"] * 3
    assert len(check(*texts).errors) == 3


def test_a_broken_service_still_counts_as_defined() -> None:
    broken = service("api", "protocol: htp")
    unsound = service("web", "protocol: http, port: 80, port: 81")
    text = route("[{backendRefs: [{name: api, port: 80}, {name: web, port: 80}]}]")
    assert codes(broken, unsound, text) == ["unknown-value", "duplicate-key"]


@pytest.mark.parametrize("head", ["apiVersion: mesh/v1\nkind: Service", "apiVersion: mesh/v1"])
def test_a_document_without_a_name_may_be_the_one_that_is_referred_to(head: str) -> None:
    nameless = f"{head}\nspec: {{protocol: http}}\n"
    assert codes(nameless, route("[{backendRefs: [{name: b, port: 80}]}]")) == ["missing-field"]


def test_an_unreadable_document_counts_as_defined() -> None:
    unreadable = service("api", "protocol: 'http")
    assert codes(unreadable, route("[{backendRefs: [{name: api, port: 80}]}]")) == ["yaml-syntax"]


def test_duplicates_show_both_places_across_files() -> None:
    result = check(service("api"), service("api", "protocol: grpc, port: 80"))
    (item,) = result.diagnostics
    assert (item.code, str(item.position)) == ("duplicate-document", "b.yaml:3:18")
    assert item.related == ((Position("a.yaml", 3, 18), "first defined here"),)
    assert codes(service("api"), service("api", namespace="shop")) == []


def test_a_broken_duplicate_is_a_duplicate_too() -> None:
    assert codes(service("api"), service("api", "protocol: x")) == [
        "duplicate-document",
        "unknown-value",
    ]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ((mesh("a"), mesh("b", "ops")), [("Mesh", "duplicate-mesh")]),
        ((service("db"), external("db")), [("db", "name-clash")]),
        ((view("x", "nope"),), [("nope", "unknown-service")]),
        ((SERVICES, view("x", "api-v2")), [("api-v2", "view-of-view")]),
        ((SERVICES, view("x", "api", "http2, port: 80")), [("http2", "view-protocol")]),
        ((SERVICES, service("x", "protocol: http, instances: {tags: [a]}")), []),
        ((service("a", "protocol: http, dependencies: [b]"),), [("b", "unknown-service")]),
        ((service("a", "protocol: http, dependencies: [db]"), external("db")), []),
        ((SERVICES, traffic(REQUESTS, target="nope")), [("nope", "unknown-target")]),
        ((SERVICES, traffic(REQUESTS, target="api-v2")), []),
        ((SERVICES, traffic("timeouts: {idle: 1s}", target="ledger")), []),
        ((SERVICES, traffic("timeouts: {request: 1s}", target="ledger")), [("1s", "tcp-target")]),
        ((SERVICES, traffic(AWARE, target="ledger")), [("latency-aware", "tcp-target")]),
        ((SERVICES, traffic(f"{AWARE}, {OFF}")), [("off", "conflicting-policies")]),
        ((SERVICES, access(ALLOW, named("api-v2"))), [("api-v2", "access-on-view")]),
        ((SERVICES, access(ALLOW, named("nope"))), [("nope", "unknown-target")]),
        ((SERVICES, access(ALLOW, named("ledger"))), []),
        ((SERVICES, access(ALLOW, MESH)), [("{kind: Mesh", "unknown-target")]),
        ((SERVICES, mesh(), access(ALLOW, MESH)), []),
        ((mesh(), access(ALLOW, MESH, "ops")), [("{kind: Mesh", "foreign-namespace")]),
    ],
)
def test_what_is_wrong_between_documents(
    texts: tuple[str, ...], expected: list[tuple[str, str]]
) -> None:
    assert pointed(*texts) == expected


def test_rules_about_requests_do_not_fit_tcp() -> None:
    rules = "[{name: a, action: deny, to: [{methods: [GET]}]}]"
    ledger = check(SERVICES, access(rules, named("ledger")))
    assert [item.code for item in ledger.errors] == ["http-rule-on-tcp"]
    for target in ("{kind: Namespace, name: default}", "{kind: Mesh}"):
        wide = check(SERVICES, mesh(), access(rules, target))
        assert [item.code for item in wide.diagnostics] == ["http-rule-on-tcp"]
        assert wide.errors == ()
    db = check(
        external("db", "protocol: tcp, port: 1"), access(rules, named("db", "ExternalService"))
    )
    assert [item.code for item in db.errors] == ["http-rule-on-tcp"]


def test_a_number_more_is_another_name_and_no_slip() -> None:
    rules = "[{name: a, action: allow, from: [{service: worker-2}]}]"
    assert codes(SERVICES, service("worker-1"), access(rules)) == []


def test_a_large_set_full_of_mistakes_takes_bounded_time() -> None:
    count = 1500
    services = together(*(service(f"service-{number}") for number in range(count)))
    one = route("[{backendRefs: [{name: gone-NN, port: 80}]}]")
    routes = [
        one.replace("NN", str(n)).replace("{name: api}", f"{{name: r{n}}}") for n in range(count)
    ]
    policies = [traffic(f"limits: {{requests: {n + 1}}}", f"t{n}") for n in range(count)]
    start = time.process_time()
    result = check(service("api"), services, together(*routes), together(*policies))
    assert {item.code for item in result.errors} == {"unknown-backend", "conflicting-policies"}
    assert time.process_time() - start < 20


def test_a_caller_needs_no_document_but_must_be_able_to_exist() -> None:
    rules = "[{name: a, action: allow, from: [{service: %s}]}]"
    assert codes(SERVICES, access(rules % "batch")) == []
    assert codes(SERVICES, access(rules % "api-v2")) == ["view-as-caller"]
    result = check(SERVICES, access(rules % "legder"))
    assert [(item.code, item.severity) for item in result.diagnostics] == [
        ("unknown-caller", "warning")
    ]


@pytest.mark.parametrize(
    ("backend", "expected"),
    [
        ("{name: api, port: 81}", "unknown-port"),
        ("{name: ledger, port: 7000}", "tcp-target"),
        ("{group: mesh, kind: ExternalService, name: web-site}", None),
        ("{group: mesh, kind: ExternalService, name: web-site, port: 81}", "unknown-port"),
    ],
)
def test_a_backend_has_the_port_and_speaks_http(backend: str, expected: str | None) -> None:
    text = route(f"[{{backendRefs: [{backend}]}}]")
    assert codes(SERVICES, external("web-site"), text) == ([expected] if expected else [])


def test_a_parent_has_the_port_and_speaks_http() -> None:
    plain = route("[{}]")
    parent = "Service, name: api"
    assert codes(SERVICES, plain.replace(parent, f"{parent}, port: 80")) == []
    assert codes(SERVICES, plain.replace(parent, f"{parent}, port: 81")) == ["unknown-port"]
    assert codes(SERVICES, plain.replace(parent, "Service, name: ledger")) == ["tcp-target"]
    assert codes(SERVICES, plain.replace(parent, "Service, name: no")) == ["unknown-parent"]


def test_hostnames_of_a_service_route_are_warned_about() -> None:
    result = check(SERVICES, route("[{}]", "hostnames: [a.example.org]"))
    assert [(item.code, item.severity) for item in result.diagnostics] == [
        ("ignored-field", "warning")
    ]


def test_two_traffic_policies_must_agree() -> None:
    one = traffic("timeouts: {request: 2s, connect: 1s}, limits: {requests: 5}", "one")
    two = traffic("timeouts: {request: 3s, connect: 1s}, limits: {requests: 6}", "two")
    (timeout, limits) = check(SERVICES, one, two).diagnostics
    assert timeout.code == limits.code == "conflicting-policies"
    assert str(timeout.position) == "c.yaml:5:70"
    assert timeout.related[0][0] == Position("b.yaml", 5, 70)
    same = traffic("timeouts: {request: 2000ms}, retry: {attempts: 1, on: [reset]}", "three")
    assert codes(SERVICES, one, same) == []


def test_balancing_and_ejection_of_two_policies_are_seen_together() -> None:
    aware = traffic("loadBalancer: {algorithm: latency-aware}", "one")
    off = traffic("outlierDetection: off", "two")
    (item,) = check(SERVICES, aware, off).diagnostics
    assert (item.code, item.position.file, item.related[0][0].file) == (
        "conflicting-policies",
        "c.yaml",
        "b.yaml",
    )


def test_what_a_view_takes_from_its_service_is_seen_together_with_its_own() -> None:
    aware = traffic("loadBalancer: {algorithm: latency-aware}", "one")
    off = traffic("outlierDetection: off", "two", "api-v1")
    services = together(SERVICES, view("api-v1", "api"))
    (item,) = check(services, aware, off).diagnostics
    assert (item.code, item.position.file, item.related[0][0].file) == (
        "conflicting-policies",
        "c.yaml",
        "b.yaml",
    )
    own = traffic("loadBalancer: {algorithm: random}", "three", "api-v1")
    assert codes(services, aware, off, own) == []


def test_a_try_as_long_as_the_request_is_warned_about() -> None:
    slow = traffic("timeouts: {request: 1s}", "one")
    retry = traffic("retry: {attempts: 1, on: [timeout], perTryTimeout: %s}", "two")
    assert codes(SERVICES, slow, retry % "1s") == ["useless-retry"]
    assert codes(SERVICES, slow, retry % "999ms") == []
    assert codes(SERVICES, retry % "9s") == []


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        ("path: {value: /a}", "path: {value: /a/}", True),
        ("path: {value: /}", "", True),
        ("path: {value: /a}", "path: {type: Exact, value: /a}", False),
        ("path: {type: Exact, value: /a}", "path: {type: Exact, value: /a/}", False),
        ("method: GET", "method: GET", True),
        ("method: GET", "method: PUT", False),
        (
            "headers: [{name: a, value: b}, {name: C, value: d}]",
            "headers: [{name: c, value: d}, {name: A, value: b}]",
            True,
        ),
        ("headers: [{name: a, value: b}]", "headers: [{name: a, value: B}]", False),
        ("queryParams: [{name: a, value: b}]", "queryParams: [{name: A, value: b}]", False),
    ],
)
def test_equal_matches_are_told_with_both_places(left: str, right: str, equal: bool) -> None:
    one = route(f"[{{matches: [{{{left}}}]}}]")
    two = route(f"[{{matches: [{{{right}}}]}}]").replace("name: api}\nspec", "name: other}\nspec")
    result = check(SERVICES, one, two)
    assert [item.code for item in result.diagnostics] == (["equal-match"] if equal else [])
    for item in result.diagnostics:
        assert (item.position.file, item.related[0][0].file) == ("c.yaml", "b.yaml")
        assert item.severity == "warning"


def test_routes_of_other_callers_are_not_compared() -> None:
    producer = route("[{}]")
    consumer = producer.replace("metadata: {name: api}", "metadata: {name: api, namespace: ops}")
    consumer = consumer.replace("name: api}]", "name: api, namespace: default}]")
    assert codes(SERVICES, producer, consumer) == []


# --- other sources --------------------------------------------------------------------------


def with_existing(existing: str, *texts: str) -> Result:
    """The front end on texts beside what another source defines."""
    theirs = front_end([SourceText("theirs.yaml", existing.encode())], partial=True)
    policies: dict[PolicyKey, Applied] = {
        item.key: Applied(
            policy=item.policy,
            entry=ManifestEntry(
                key=item.key,
                digest=item.digest,
                source="team",
                file=item.position.file,
                line=item.position.line,
                introduced=1,
            ),
        )
        for item in theirs.policies
    }
    sources = [SourceText(f"{i}.yaml", text.encode()) for i, text in enumerate(texts)]
    return front_end(sources, existing=policies)


def test_other_sources_satisfy_references() -> None:
    text = route("[{backendRefs: [{name: api-v2, port: 80}]}]")
    assert with_existing(SERVICES, text).diagnostics == ()
    assert len(with_existing(SERVICES, text).policies) == 1


def test_other_sources_own_their_documents() -> None:
    (item,) = with_existing(SERVICES, service("api")).diagnostics
    assert item.code == "owned-elsewhere"
    assert item.related == ((Position("theirs.yaml", 2), "defined by source team"),)


def test_a_conflict_with_another_source_is_shown_at_our_document() -> None:
    theirs = together(
        SERVICES, traffic("timeouts: {idle: 1s}", "aaa"), traffic("limits: {retries: 1}", "zzz")
    )
    ours = traffic("timeouts: {idle: 2s}, limits: {retries: 2}", "mmm")
    found = with_existing(theirs, ours).diagnostics
    assert [(item.code, item.position.file) for item in found] == [
        ("conflicting-policies", "0.yaml")
    ] * 2
    assert {item.related[0][0].file for item in found} == {"theirs.yaml"}


def test_mistakes_of_other_sources_are_not_ours() -> None:
    theirs = together(
        route("[{backendRefs: [{name: gone, port: 80}]}]"), traffic("limits: {retries: 1}")
    )
    assert with_existing(theirs, service("api")).diagnostics == ()


@pytest.mark.parametrize(("theirs", "ours"), [(mesh("a"), mesh("b")), (mesh("b"), mesh("a"))])
def test_a_second_mesh_is_ours_whatever_its_name(theirs: str, ours: str) -> None:
    assert [item.code for item in with_existing(theirs, ours).diagnostics] == ["duplicate-mesh"]


def test_a_match_equal_to_another_sources_is_told() -> None:
    for name in ("aaa", "zzz"):
        theirs = together(SERVICES, route("[{}]"))
        ours = route("[{}]").replace("name: api}\nspec", f"name: {name}}}\nspec")
        (item,) = with_existing(theirs, ours).diagnostics
        assert (item.code, item.position.file) == ("equal-match", "0.yaml")
