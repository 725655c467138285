"""Whose certificates a TCP service accepts."""

import re
from typing import Any

import pytest

from mesh.compiler.handshakes import welcome
from mesh.model.policy import AccessRule, Action, Default, Operation, Policy, Protocol
from tests.support import sidecars
from tests.support.policies import access, caller, mesh, policies, rule, service


def matchers(*rules: AccessRule, default: Default = Default.DENY) -> list[dict[str, Any]]:
    items: tuple[Policy, ...] = (mesh(default), service("db", Protocol.TCP, 5432))
    items += (access("db", "db", *rules),)
    view = sidecars.view(policies(*items), sidecars.placement("db", app=5432))
    assert view.inbound is not None
    found = welcome("mesh.local", view.inbound)
    assert all(each["san_type"] == "URI" for each in found)
    return [dict(each["matcher"]) for each in found]


def accepts(found: list[dict[str, Any]], who: str) -> bool:
    return any(_matches(each, uri(who)) for each in found)


def _matches(matcher: dict[str, Any], text: str) -> bool:
    match matcher:
        case {"exact": value}:
            return bool(text == value)
        case {"prefix": value}:
            return text.startswith(value)
        case {"safe_regex": {"regex": pattern}}:
            return re.fullmatch(pattern, text) is not None
    raise AssertionError(matcher)


def uri(who: str) -> str:
    own = caller(who)
    return f"spiffe://mesh.local/ns/{own.namespace}/svc/{own.service}"


A, D = Action.ALLOW, Action.DENY
CALLERS = ["web", "webb", "we", "api", "ops/tool", "ops/too", "ops/tools", "ops-x/tool", "op/tool"]


@pytest.mark.parametrize(
    ("rules", "welcomed"),
    [
        ([], []),
        ([rule(A, "web")], ["web"]),
        ([rule(A, "web", "ops/*")], ["web", "ops/tool", "ops/too", "ops/tools"]),
        ([rule(A)], CALLERS),
        ([rule(A, "web"), rule(D, "web", called="d")], []),
        ([rule(A, "web", "api"), rule(D, "default/*", called="d")], []),
        ([rule(A), rule(D, called="d")], []),
        ([rule(A, "ops/*"), rule(D, "ops/tool", called="d")], ["ops/too", "ops/tools"]),
        ([rule(A, "ops/*"), rule(D, "ops/too", "ops/tool", called="d")], ["ops/tools"]),
        ([rule(A, "ops/*"), rule(D, "ops/*", called="d")], []),
        (
            [rule(A), rule(D, "ops/*", "web", called="d")],
            ["webb", "we", "api", "ops-x/tool", "op/tool"],
        ),
        ([rule(A, "web", operations=(Operation(methods=("GET",)),))], []),
        ([rule(Action.AUDIT, "web")], []),
    ],
)
def test_who_is_allowed_and_not_denied_is_welcome(
    rules: list[AccessRule], welcomed: list[str]
) -> None:
    found = matchers(*rules)
    assert found, "an empty list would accept everybody"
    assert [each for each in CALLERS if accepts(found, each)] == welcomed


def test_where_the_mesh_allows_only_the_denied_are_not_welcome() -> None:
    assert matchers(default=Default.ALLOW) == [{"prefix": "spiffe://mesh.local/ns/"}]
    found = matchers(rule(D, "ops/*", "web"), default=Default.ALLOW)
    assert [each for each in CALLERS if not accepts(found, each)] == [
        "web",
        "ops/tool",
        "ops/too",
        "ops/tools",
    ]


def test_other_trust_domains_are_never_welcome() -> None:
    found = matchers(rule(D, "web"), default=Default.ALLOW)
    for text in ("spiffe://mesh.localx/ns/a/svc/b", "spiffe://mesh-local/ns/a/svc/b", "nobody"):
        assert not any(_matches(each, text) for each in found)
