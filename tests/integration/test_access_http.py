"""Access rules between two real sidecars with real certificates."""

from collections.abc import Iterator, Mapping

import pytest

from mesh.model.policy import AccessPathType, Action, Operation, ValueMatch, ValueMatchType
from tests.support import echo, sidecars
from tests.support.envoy import RunningEnvoy
from tests.support.policies import access, policies, rule, service

EXACT, PREFIX, REGEX = AccessPathType.EXACT, AccessPathType.PREFIX, AccessPathType.REGEX

POLICIES = policies(
    service("api"),
    access(
        "api",
        "api",
        rule(
            Action.ALLOW,
            "web",
            called="web-reads",
            operations=(
                Operation(methods=("GET", "HEAD"), paths=((PREFIX, "/items/"), (EXACT, "/health"))),
                Operation(paths=((REGEX, "/v[0-9]+/open"),)),
                Operation(headers=(ValueMatch("x-key", "k[0-9]", ValueMatchType.REGEX),)),
            ),
        ),
        rule(Action.ALLOW, "ops/*", called="ops-all"),
        rule(
            Action.DENY,
            called="no-admin",
            operations=(Operation(paths=((PREFIX, "/items/admin"),)),),
        ),
        rule(Action.DENY, "ops/bad", called="no-bad"),
        rule(Action.AUDIT, "guest", called="guests"),
    ),
)


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mapping[str, RunningEnvoy]]:
    callers = ("web", "ops/tool", "ops/bad", "guest", "opsx/tool")
    with (
        echo.running(["api"]) as ports,
        sidecars.running(POLICIES, apps={"api": ports["api"]}, callers=callers) as found,
    ):
        yield found


def ask(mesh: Mapping[str, RunningEnvoy], caller: str, path: str, **fields: object) -> str:
    """The status, with the reason where a sidecar answered."""
    answer = sidecars.request(mesh[caller].ports["outbound"], path, host="api.default", **fields)
    return f"{answer.status} {answer.reason or ''}".strip()


DENIED = "403 access-denied"


@pytest.mark.parametrize(
    ("path", "method", "expected"),
    [
        ("/items", "GET", "200"),
        ("/items/", "GET", "200"),
        ("/items/7?q=1", "GET", "200"),
        ("/items?admin", "GET", "200"),
        ("/items", "HEAD", "200"),
        ("/items", "POST", DENIED),
        ("/items", "PATCH", DENIED),
        ("/itemsx", "GET", DENIED),
        ("/health", "GET", "200"),
        ("/health/", "GET", DENIED),
        ("/v12/open", "DELETE", "200"),
        ("/v12/open/more", "DELETE", DENIED),
        ("/", "GET", DENIED),
        ("/items/admin", "GET", DENIED),
        ("/items/admin/users", "GET", DENIED),
        ("/items/administration", "GET", "200"),
    ],
)
def test_methods_and_paths_decide(
    mesh: Mapping[str, RunningEnvoy], path: str, method: str, expected: str
) -> None:
    assert ask(mesh, "web", path, method=method) == expected


@pytest.mark.parametrize(
    "path",
    [
        "//items/admin",
        "/items//admin",
        "/items/./admin",
        "/items/x/../admin",
        "/items/%61dmin",
        "/items/%2e/admin",
        "/items/x/%2e%2e/admin",
        "/items\\admin",
        "/items/x\\..\\admin",
        "/items/admin;x=1",
        "/items/admin%3bx=1",
        "/items/;/admin",
        "/items/%3B/admin",
        "/items/x/..;/admin",
        "/items/admin%2f",
        "/items/x%2f..%2fadmin",
        "/items/%5cadmin",
        "/items/admin%00",
        "/items/admin#fragment",
    ],
)
def test_no_way_to_write_a_path_gets_past_a_deny(
    mesh: Mapping[str, RunningEnvoy], path: str
) -> None:
    assert ask(mesh, "web", path) in (DENIED, "400 bad-request")


def test_headers_decide(mesh: Mapping[str, RunningEnvoy]) -> None:
    assert ask(mesh, "web", "/other", headers={"x-key": "k1"}) == "200"
    assert ask(mesh, "web", "/other", headers={"x-key": "k12"}) == DENIED
    assert ask(mesh, "web", "/other") == DENIED


def test_a_namespace_is_a_caller_and_deny_beats_allow(mesh: Mapping[str, RunningEnvoy]) -> None:
    assert ask(mesh, "ops/tool", "/anything", method="DELETE") == "200"
    assert ask(mesh, "ops/bad", "/anything") == DENIED


def test_who_is_not_admitted_does_not_know_the_name(mesh: Mapping[str, RunningEnvoy]) -> None:
    assert ask(mesh, "opsx/tool", "/items") == "404 unknown-host"


def test_audit_records_and_decides_nothing(mesh: Mapping[str, RunningEnvoy]) -> None:
    name = "policy.default/api/guests.shadow_allowed"
    before = mesh["api"].stats("http.inbound.rbac.audit.").get(name, 0)
    assert ask(mesh, "guest", "/items") == DENIED
    assert mesh["api"].stats("http.inbound.rbac.audit.")[name] == before + 1


def test_refusals_are_counted_by_the_name_of_the_rule(mesh: Mapping[str, RunningEnvoy]) -> None:
    ask(mesh, "web", "/items/admin")
    ask(mesh, "web", "/nowhere")
    counted = mesh["api"].stats("http.inbound.rbac.policy.")
    assert counted["default/api/no-admin.denied"] > 0
    assert counted["default-deny.denied"] > 0


def test_a_caller_cannot_say_who_it_is(mesh: Mapping[str, RunningEnvoy]) -> None:
    ours = "URI=spiffe://mesh.local/ns/default/svc/web"
    headers = {"x-forwarded-client-cert": ours, "x-envoy-internal": "true"}
    assert ask(mesh, "guest", "/items", headers=headers) == DENIED
