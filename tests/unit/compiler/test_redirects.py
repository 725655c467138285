from typing import Any

import pytest

from mesh.compiler import redirects
from mesh.compiler.view import VirtualService
from mesh.model.policy import (
    PathMatch,
    PathMatchType,
    ReplaceFullPath,
    ReplacePrefixMatch,
    RequestRedirect,
)
from tests.support.views import service


def _actions(listener: int = 80, **redirect: Any) -> list[tuple[list[Any], Any]]:
    called = VirtualService(target=service("api"), hosts=("api", "a.b"), port=listener, routes=())
    matched = PathMatch(PathMatchType.PREFIX, "/old")
    return list(redirects.actions(RequestRedirect(**redirect), called, matched))


def test_a_hostname_needs_one_action() -> None:
    assert _actions(hostname="example.org", status=301) == [
        ([], {"response_code": "MOVED_PERMANENTLY", "host_redirect": "example.org"})
    ]


def test_without_a_hostname_each_host_loses_a_port_that_location_must_not_have() -> None:
    *hosts, (matchers, last) = _actions(listener=8080, scheme="https")
    assert [action["host_redirect"] for _, action in hosts] == ["api", "a.b"]
    assert [each["string_match"]["exact"] for [each], _ in hosts] == ["api:8080", "a.b:8080"]
    assert matchers == []
    assert last == {"response_code": "FOUND", "scheme_redirect": "https"}


def test_a_port_that_location_has_replaces_any_other() -> None:
    [(_, action)] = _actions(listener=8080, path=ReplaceFullPath("/new"))
    assert action == {"response_code": "FOUND", "path_redirect": "/new", "port_redirect": 8080}


def test_the_schemes_own_port_is_left_out() -> None:
    assert "port_redirect" not in _actions(scheme="https", hostname="x")[0][1]
    assert "port_redirect" not in _actions(scheme="https", port=443, hostname="x")[0][1]
    assert _actions(scheme="https", port=80, hostname="x")[0][1]["port_redirect"] == 80
    assert _actions(listener=443, hostname="x")[0][1]["port_redirect"] == 443


@pytest.mark.parametrize(
    ("status", "response"),
    [
        (301, "MOVED_PERMANENTLY"),
        (302, "FOUND"),
        (303, "SEE_OTHER"),
        (307, "TEMPORARY_REDIRECT"),
        (308, "PERMANENT_REDIRECT"),
    ],
)
def test_each_status(status: int, response: str) -> None:
    assert _actions(hostname="x", status=status)[0][1]["response_code"] == response


def test_a_prefix_is_replaced_by_expression() -> None:
    action = _actions(hostname="x", path=ReplacePrefixMatch("/new"))[0][1]
    assert action["regex_rewrite"]["substitution"] == r"/new\1"
