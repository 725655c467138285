"""HTTPRoute to the letter, through the real Envoy: the tables of `routing/*.yaml`.

Each scenario's documents go through the whole front end and the whole compiler; each check is a
request of the scenario's caller. What the tables cannot say is below them.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from mesh.model.identity import ServiceName
from tests.support import routing
from tests.support.routing import Answer, Mesh, Scenario

TABLES = ("matches", "precedence", "backends", "filters", "traffic")
ROUTE = {"group": "", "kind": "Service", "name": "api"}

# Gateway API v1.6, HTTPPathModifier.replacePrefixMatch: request path, prefix, replacement, result.
PREFIX_TABLE = [
    ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
    ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
    ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
    ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
    ("/foo", "/foo", "/xyz", "/xyz"),
    ("/foo/", "/foo", "/xyz", "/xyz/"),
    ("/foo/bar", "/foo", "", "/bar"),
    ("/foo/", "/foo", "", "/"),
    ("/foo", "/foo", "", "/"),
    ("/foo/", "/foo", "/", "/"),
    ("/foo", "/foo", "/", "/"),
    # What follows from it.
    ("/foo", "/", "/xyz", "/xyz/foo"),
    ("/", "/", "/xyz", "/xyz/"),
    ("/foo/bar", "/", "/", "/foo/bar"),
    ("/foo/foo/bar", "/foo", "/xyz", "/xyz/foo/bar"),
    ("/foo?a=/foo", "/foo", "", "/?a=/foo"),
    ("/foo/bar?a=b%2Fc", "/foo", "/x/y", "/x/y/bar?a=b%2Fc"),
]


def _tables() -> dict[str, dict[str, Any]]:
    folder = Path(__file__).parent / "routing"
    entries = [
        entry
        for table in TABLES
        for entry in YAML(typ="safe").load((folder / f"{table}.yaml").read_text())
    ]
    found = {entry["name"]: entry for entry in entries}
    assert len(found) == len(entries), "two scenarios of one name"
    return found


def _route(rules: list[dict[str, Any]]) -> str:
    document = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "route"},
        "spec": {"parentRefs": [ROUTE], "rules": rules},
    }
    return routing.as_yaml(document)


def _scenario(entry: dict[str, Any]) -> Scenario:
    namespace, _, name = entry.get("caller", "default/web").partition("/")
    return Scenario(
        documents=entry["documents"] if "documents" in entry else _route(entry["rules"]),
        caller=ServiceName(namespace, name),
        gone=frozenset(entry.get("gone", ())),
        same_age=entry.get("same_age", False),
    )


def _prefix_scenario(prefix: str, replacement: str) -> Scenario:
    """The same path modifier in a rewrite and, with a header, in a redirect."""
    path = {"type": "ReplacePrefixMatch", "replacePrefixMatch": replacement}
    match = {"path": {"type": "PathPrefix", "value": prefix}}
    rewrite = {"type": "URLRewrite", "urlRewrite": {"path": path}}
    redirect = {"type": "RequestRedirect", "requestRedirect": {"path": path}}
    asked = {**match, "headers": [{"name": "x-redirect", "value": "1"}]}
    return Scenario(
        _route(
            [
                {"matches": [asked], "filters": [redirect]},
                {
                    "matches": [match],
                    "filters": [rewrite],
                    "backendRefs": [{"name": "api-v1", "port": 80}],
                },
            ]
        )
    )


ENTRIES = _tables()
CHECKS = [
    (name, number, check)
    for name, entry in ENTRIES.items()
    for number, check in enumerate(entry["checks"])
]
SHARES = {
    "shares": [("api-v1", 80, 9), ("api-v2", 80, 1)],
    "shares-of-the-vanished": [("api-v1", 80, 1), ("stock", 8080, 1), ("empty", 80, 1)],
}


def _scenarios() -> dict[str, Scenario]:
    found = {name: _scenario(entry) for name, entry in ENTRIES.items()}
    for _, prefix, replacement, _ in PREFIX_TABLE:
        found[f"prefix {prefix} {replacement}"] = _prefix_scenario(prefix, replacement)
    for name, shares in SHARES.items():
        refs = [{"name": each, "port": port, "weight": n} for each, port, n in shares]
        gone = frozenset({"Service stock"} if "vanished" in name else ())
        found[name] = Scenario(_route([{"backendRefs": refs}]), gone=gone)
    return found


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with routing.running(_scenarios()) as running:
        yield running


def _id(case: tuple[str, int, dict[str, Any]]) -> str:
    name, number, check = case
    return f"{name}-{number} {check.get('method', 'GET')} {check.get('path', '/')}"


@pytest.mark.parametrize("case", CHECKS, ids=_id)
def test_a_request_gets_what_the_specification_says(
    mesh: Mesh, case: tuple[str, int, dict[str, Any]]
) -> None:
    name, number, check = case
    for time in range(check.get("times", 1)):
        headers = {"x-echo-key": f"{name} {number} {time}", **check.get("headers", {})}
        answer = mesh.ask(
            name,
            check.get("path", "/"),
            host=check.get("host", "api"),
            method=check.get("method", "GET"),
            headers=headers.items(),
        )
        _verify(check, answer)


def _verify(check: dict[str, Any], answer: Answer) -> None:
    assert answer.status == check.get("status", 200), answer
    assert answer.headers.get("x-mesh-reason") == check.get("reason"), answer
    backend = check.get("backend")
    assert answer.backend in (backend if isinstance(backend, list) else [backend]), answer
    if "seen" in check:
        assert answer.asked["path"] == check["seen"]
    if "tries" in check:
        assert answer.asked["tries"] == check["tries"]
    if "says" in check:
        assert check["says"] in answer.body
    received = {header: answer.seen(header) for header in check.get("received", {})}
    assert received == check.get("received", {})
    answered = {header: answer.headers.get(header) for header in check.get("answer", {})}
    assert answered == check.get("answer", {})


@pytest.mark.parametrize(("path", "prefix", "replacement", "result"), PREFIX_TABLE)
def test_replacing_a_prefix_follows_the_specifications_table(
    mesh: Mesh, path: str, prefix: str, replacement: str, result: str
) -> None:
    scenario = f"prefix {prefix} {replacement}"
    rewritten = mesh.ask(scenario, path)
    redirected = mesh.ask(scenario, path, headers=[("x-redirect", "1")])
    assert rewritten.asked.get("path") == result
    assert redirected.headers.get("location") == f"http://api{result}"


def test_weights_are_shares_and_need_not_sum_to_a_hundred(mesh: Mesh) -> None:
    backends = Counter(mesh.ask("shares").backend for _ in range(400))
    assert backends.keys() == {"v1", "v2"}
    assert 10 <= backends["v2"] <= 80  # 40 expected, six standard deviations either way


def test_shares_of_backends_that_cannot_answer_do_not_move_to_their_siblings(mesh: Mesh) -> None:
    answers = [mesh.ask("shares-of-the-vanished") for _ in range(300)]
    kinds = Counter((each.status, each.headers.get("x-mesh-reason")) for each in answers)
    assert kinds.keys() == {(200, None), (500, "no-backend"), (503, "no-healthy-endpoint")}
    assert all(55 <= count <= 150 for count in kinds.values()), kinds
