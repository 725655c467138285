"""Access rules as RBAC. What they do to requests is tested behind a real Envoy."""

import re
from typing import Any

import pytest

from mesh.compiler import authorization
from mesh.compiler.view import View
from mesh.diagnostics import Position
from mesh.model.policy import (
    AccessPathType,
    Action,
    Default,
    Operation,
    Policy,
    Protocol,
    ValueMatch,
    ValueMatchType,
)
from tests.support import sidecars
from tests.support.policies import access, allow, external, mesh, policies, rule, service, target

WEB = {"authenticated": {"principal_name": {"exact": "spiffe://mesh.local/ns/default/svc/web"}}}
OPS = {"authenticated": {"principal_name": {"prefix": "spiffe://mesh.local/ns/ops/svc/"}}}
ANYBODY = {"authenticated": {"principal_name": {"prefix": "spiffe://mesh.local/"}}}


def view(*items: Policy, service: str = "api") -> View:
    return sidecars.view(policies(*items), sidecars.placement(service, app=8080))


def rules(*items: Policy) -> dict[str, Any]:
    """Each refusal's condition, by name."""
    (only,) = authorization.inbound(view(*items))
    found = only.json["typed_config"]["rules"]
    assert found["action"] == "DENY"
    return _conditions(found)


def _conditions(rules: dict[str, Any]) -> dict[str, Any]:
    for policy in rules["policies"].values():
        assert policy["permissions"] == [{"any": True}]
    return {name: each["principals"][0] for name, each in rules["policies"].items()}


@pytest.mark.parametrize("value", ["k", "a-c]^", "x" * 200])
def test_another_line_of_a_header_that_a_rule_asks_for_is_refused(value: str) -> None:
    pattern = re.compile(authorization._other_than(value))
    assert not pattern.fullmatch(value)
    for other in ("", value[:-1], value + "x", "?" + value[1:], value + "\n"):
        assert pattern.fullmatch(other)


def test_without_rules_everything_is_refused_by_name() -> None:
    assert rules()["default-deny"] == {"any": True}


def test_allow_rules_are_what_the_default_does_not_refuse() -> None:
    found = rules(access("api", "api", rule(Action.ALLOW, "web", "ops/*")))
    assert found["default-deny"] == {"not_id": {"or_ids": {"ids": [WEB, OPS]}}}


def test_no_callers_means_any_member_of_the_trust_domain() -> None:
    found = rules(access("api", "api", rule(Action.ALLOW)))
    assert found["default-deny"] == {"not_id": ANYBODY}


def test_a_deny_rule_is_a_refusal_of_its_own() -> None:
    found = rules(access("api", "api", rule(Action.DENY, "web", called="not-web")))
    assert found["default/api/not-web"] == WEB


def test_where_the_mesh_allows_only_deny_rules_refuse() -> None:
    items = (
        mesh(Default.ALLOW),
        access("api", "api", rule(Action.ALLOW, "web"), rule(Action.DENY, "ops/*", called="no")),
    )
    assert rules(*items).keys() == {"default/api/no"}


def test_audit_rules_record_beside_and_refuse_nothing() -> None:
    (only,) = authorization.inbound(
        view(access("api", "api", rule(Action.AUDIT, "web", called="watch")))
    )
    config = only.json["typed_config"]
    assert _conditions(config["shadow_rules"]) == {"default/api/watch": WEB}
    assert config["shadow_rules"]["action"] == "ALLOW"
    assert config["rules"]["policies"].keys() == {"default-deny"}


def operation(**fields: Any) -> dict[str, Any]:
    found = rules(
        access("api", "api", rule(Action.DENY, called="r", operations=(Operation(**fields),)))
    )
    condition: dict[str, Any] = found["default/api/r"]
    first, second = condition["and_ids"]["ids"]
    assert first == ANYBODY
    return dict(second)


def url(**matcher: Any) -> dict[str, Any]:
    return {"url_path": {"path": matcher}}


EXACT, PREFIX, REGEX = AccessPathType.EXACT, AccessPathType.PREFIX, AccessPathType.REGEX


def test_paths_are_without_query_and_a_prefix_is_by_element() -> None:
    assert operation(paths=((EXACT, "/a"),)) == url(exact="/a")
    assert operation(paths=((REGEX, "/a+"),)) == url(safe_regex={"regex": "/a+"})
    for prefix in ("/a", "/a/"):
        both = [url(exact="/a"), url(prefix="/a/")]
        assert operation(paths=((PREFIX, prefix),)) == {"or_ids": {"ids": both}}
    assert operation(paths=((PREFIX, "/"),)) == url(prefix="/")


def test_methods_are_alternatives_and_headers_are_all_required() -> None:
    get, put = (
        {"header": {"name": ":method", "string_match": {"exact": each}}} for each in ("GET", "PUT")
    )
    assert operation(methods=("GET", "PUT")) == {"or_ids": {"ids": [get, put]}}
    host = {"header": {"name": ":authority", "string_match": {"exact": "h"}}}
    key = {"header": {"name": "x", "string_match": {"safe_regex": {"regex": "k"}}}}
    headers = (ValueMatch("host", "h"), ValueMatch("x", "k", ValueMatchType.REGEX))
    assert operation(headers=headers) == {"and_ids": {"ids": [host, key]}}


def test_path_parameters_are_refused_where_a_rule_names_a_path_and_only_there() -> None:
    named = rule(Action.ALLOW, operations=(Operation(paths=((EXACT, "/a"),)),))
    assert "path-parameters" in rules(access("api", "api", named))
    unnamed = rule(Action.ALLOW, operations=(Operation(methods=("GET",)),))
    assert "path-parameters" not in rules(access("api", "api", unnamed))


def test_it_comes_from_the_places_of_its_policies() -> None:
    (only,) = authorization.inbound(view(service("api"), allow("api", "web")))
    assert set(only.sources) == {
        Position("service-default-api.yaml"),
        Position("accesspolicy-default-api.yaml"),
    }


def test_a_caller_only_sidecar_protects_nothing() -> None:
    assert authorization.inbound(sidecars.view(policies(), sidecars.placement("web"))) == []


# --- TCP ------------------------------------------------------------------------------------


def tcp(*items: Policy) -> dict[str, Any]:
    (only,) = authorization.inbound(view(service("api", Protocol.TCP, 5432), *items))
    assert only.name == "access-tcp"
    return _conditions(only.json["typed_config"]["rules"])


def test_bytes_have_no_operations() -> None:
    reads = (Operation(methods=("GET",)),)
    found = tcp(
        access(
            "api",
            "api",
            rule(Action.ALLOW, "web", called="a", operations=reads),
            rule(Action.DENY, "ops/*", called="d", operations=reads),
        )
    )
    assert found["default-deny"] == {"any": True}
    assert found["default/api/d"] == OPS


# SPIFFE-ID sections 2.1 and 2.2, and what the mesh gives out.
STRANGE = [
    "spiffe://mesh.local",
    "spiffe://mesh.local/",
    "spiffe://mesh.local/ns/",
    "spiffe://mesh.local/ns/default",
    "spiffe://mesh.local/ns//svc/web",
    "spiffe://mesh.local/ns/default/sv/web",
    "spiffe://mesh.local/ns/default/svc/",
    "spiffe://mesh.local/ns/default/svc/web/",
    "spiffe://mesh.local/ns/default/svc/web?a",
    "spiffe://mesh.local/ns/default/svc/web#a",
    "spiffe://mesh.local/ns/default/svc/w%65b",
    "spiffe://mesh.local/ns/default/svc/api/../web",
    "spiffe://mesh.local/ns/../ns/default/svc/web",
    "spiffe://mesh.local/nsx/default/svc/web",
    "spiffe://mesh.local.evil/ns/default/svc/web",
    "spiffe://mesh-local/ns/default/svc/web",
    "spiffe://other/ns/default/svc/web",
    "spiffe://mesh.local/ns/default/svc/web\n",
    "spiffe://",
    "https://mesh.local/",
    "",
]
MEMBERS = ["spiffe://mesh.local/ns/default/svc/web", "spiffe://mesh.local/ns/o-1/svc/2"]


def test_one_identity_of_the_mesh_is_a_member_and_nothing_else_is() -> None:
    guard = authorization.members("mesh.local")
    (only,) = guard["matcher"]["matcher_list"]["matchers"]
    assert only["on_match"]["action"]["typed_config"]["action"] == "ALLOW"
    condition = only["predicate"]["single_predicate"]
    assert condition["input"]["typed_config"]["@type"].endswith("UriSanInput")
    pattern = condition["value_match"]["safe_regex"]["regex"]
    assert all(re.fullmatch(pattern, each) for each in MEMBERS)
    assert [each for each in STRANGE if re.fullmatch(pattern, each)] == []
    for two in (MEMBERS, (STRANGE[0], MEMBERS[0]), (MEMBERS[0], STRANGE[0])):
        assert not re.fullmatch(pattern, ",".join(two))


# --- ExternalServices -----------------------------------------------------------------------


def outbound(*items: Policy, caller: str = "web") -> dict[str, Any] | None:
    found = authorization.outbound(view(external("ext"), *items, service=caller), EXT)
    if found is None:
        return None
    assert found["@type"].endswith("RBACPerRoute")
    return _conditions(found["rbac"]["rules"])


EXT = target("external:ext")


def test_only_the_callers_own_rules_are_left_without_their_callers() -> None:
    found = outbound(
        access(
            "ext",
            "external:ext",
            rule(Action.ALLOW, "web", called="a", operations=(Operation(methods=("GET",)),)),
            rule(Action.ALLOW, "ops", called="b"),
            rule(Action.DENY, "ops", called="c"),
        )
    )
    get = {"header": {"name": ":method", "string_match": {"exact": "GET"}}}
    assert found == {"default-deny": {"not_id": get}}


def test_an_allowed_caller_needs_no_more_than_that() -> None:
    assert outbound(allow("external:ext", "web")) == {"default-deny": {"not_id": {"any": True}}}


def test_where_nothing_can_be_refused_there_is_no_filter() -> None:
    assert outbound(mesh(Default.ALLOW)) is None


def test_a_service_decides_by_itself() -> None:
    own = view(service("api"), allow("api", "web"), service="web")
    assert authorization.outbound(own, target("api")) is None
