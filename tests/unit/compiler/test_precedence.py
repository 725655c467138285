"""The order of routes: Gateway API v1.6, and which routes apply to a caller at all."""

from itertools import permutations

import pytest

from mesh.compiler.view import Route, View
from mesh.model.policy import (
    HTTPMatch,
    HTTPRoute,
    HTTPRule,
    PathMatch,
    PathMatchType,
    Policy,
    Protocol,
    Retry,
    Timeouts,
    ValueMatch,
)
from tests.support import sidecars
from tests.support.policies import (
    allow,
    backend,
    milliseconds,
    policies,
    route,
    service,
    target,
    traffic,
    view_of,
)

EXACT, PREFIX, REGEX = PathMatchType.EXACT, PathMatchType.PREFIX, PathMatchType.REGEX
H = (ValueMatch("a", "1"), ValueMatch("b", "1"))
Q = (ValueMatch("q", "1"),)

# From the first to be tried to the last; each is more specific than all that follow it.
SPECIFIC_FIRST = [
    HTTPMatch(path=PathMatch(EXACT, "/a")),
    HTTPMatch(path=PathMatch(REGEX, "/a[0-9]+/long")),
    HTTPMatch(path=PathMatch(REGEX, "/a.*")),
    HTTPMatch(path=PathMatch(PREFIX, "/a/b/c")),
    HTTPMatch(path=PathMatch(PREFIX, "/a/b"), method="GET"),
    HTTPMatch(path=PathMatch(PREFIX, "/a/b/"), headers=H),
    HTTPMatch(path=PathMatch(PREFIX, "/a/b"), headers=H[:1], query=Q),
    HTTPMatch(path=PathMatch(PREFIX, "/a/b"), headers=H[:1]),
    HTTPMatch(path=PathMatch(PREFIX, "/a/b"), query=Q),
    HTTPMatch(path=PathMatch(PREFIX, "/a/b")),
    HTTPMatch(method="GET", headers=H),
    HTTPMatch(headers=H, query=Q),
    HTTPMatch(),
]


def view(caller: str, *items: Policy) -> View:
    return sidecars.view(policies(*items), sidecars.placement(caller))


def routes(caller: str, *items: Policy, parent: str = "api") -> tuple[Route, ...]:
    found = {each.target: each.routes for each in view(caller, *items).services}
    return found[target(parent)]


def sends(*matches: HTTPMatch, to: str = "api", called: str | None = None) -> HTTPRule:
    return HTTPRule(name=called, matches=matches or (HTTPMatch(),), backends=(backend(to),))


BASE = (service("api"), allow("api"))


@pytest.mark.parametrize("rotation", range(len(SPECIFIC_FIRST)))
def test_specific_matches_come_first_wherever_they_stand(rotation: int) -> None:
    shuffled = SPECIFIC_FIRST[rotation:] + SPECIFIC_FIRST[:rotation]
    half = len(shuffled) // 2
    items = (
        *BASE,
        route("b", "api", sends(*shuffled[:half])),
        route("a", "api", *(sends(each) for each in shuffled[half:])),
    )
    assert [each.match for each in routes("web", *items)] == SPECIFIC_FIRST


def test_among_equal_matches_the_older_document_is_first_then_name_then_rule() -> None:
    ordered = [
        route("z", "api", sends(called="1"), sends(called="2")),
        route("a", "api", sends(called="3")),
    ]
    found = routes("web", *BASE, *ordered)
    assert [each.rule for each in found] == ["default/z/1", "default/z/2", "default/a/3"]


def test_of_one_age_the_name_decides_whatever_the_order_of_input() -> None:
    both = [route("b", "api", sends()), route("a", "api", sends())]
    for items in permutations(both):
        known = dict(policies(*BASE, *items))
        for key, applied in known.items():
            known[key] = type(applied)(
                policy=applied.policy, entry=type(applied.entry)(**_aged(applied.entry))
            )
        (only,) = sidecars.view(known, sidecars.placement("web")).services
        assert [each.rule for each in only.routes] == ["default/a/0", "default/b/0"]


def _aged(entry: object) -> dict[str, object]:
    fields = {name: getattr(entry, name) for name in type(entry).__dataclass_fields__}
    return fields | {"introduced": 1}


def test_without_routes_a_service_is_its_own_backend() -> None:
    policy = traffic(
        "t",
        "api",
        timeouts=Timeouts(request=milliseconds(900)),
        retry=Retry(attempts=1, per_try_timeout=milliseconds(300)),
    )
    (only,) = routes("web", *BASE, policy)
    assert [share.destination for share in only.shares] == [target("api")]
    assert (only.timeout, only.backend_timeout) == (milliseconds(900), milliseconds(300))
    assert only.retry == policy.retry


def test_a_routes_own_time_outs_come_before_the_traffic_policys() -> None:
    policy = traffic(
        "t",
        "api",
        timeouts=Timeouts(request=milliseconds(900)),
        retry=Retry(attempts=1, per_try_timeout=milliseconds(300)),
    )
    rule = HTTPRule(
        backends=(backend("api"),), timeout=milliseconds(0), backend_timeout=milliseconds(5)
    )
    (only,) = routes("web", *BASE, policy, route("r", "api", rule))
    assert (only.timeout, only.backend_timeout) == (milliseconds(0), milliseconds(5))


def test_it_is_the_parents_traffic_policy_that_holds_not_the_backends() -> None:
    policy = traffic("t", "other", timeouts=Timeouts(request=milliseconds(900)))
    (only,) = routes("web", *BASE, service("other"), policy, route("r", "api", sends(to="other")))
    assert only.timeout is None


def consumer(text: str, parent: str, *rules: HTTPRule) -> HTTPRoute:
    return route(f"ops/{text}", parent, *rules)


def test_consumer_routes_replace_the_producers_for_callers_of_their_namespace() -> None:
    items = (
        *BASE,
        route("mine", "api", sends()),
        consumer("theirs", "api", sends(HTTPMatch(path=PathMatch(PREFIX, "/x")))),
        route("third/others", "api", sends()),
    )
    assert [each.rule for each in routes("ops/tool", *items)] == ["ops/theirs/0"]
    assert [each.rule for each in routes("web", *items)] == ["default/mine/0"]
    assert [each.rule for each in routes("else/x", *items)] == ["default/mine/0"]


def test_routes_are_those_of_the_addressed_service_not_of_its_backends() -> None:
    items = (
        *BASE,
        view_of("api-v1", "api"),
        route("r", "api", sends(to="api-v1")),
        route("inner", "api-v1", HTTPRule(backends=())),
    )
    (only,) = routes("web", *items)
    assert only.rule == "default/r/0"
    (inner,) = routes("web", *items, parent="api-v1")
    assert inner.rule == "default/inner/0"


@pytest.mark.parametrize(("port", "applies"), [(None, True), (80, True), (81, False)])
def test_a_parents_port_is_one_of_its_service_or_the_route_is_not_for_it(
    port: int | None, applies: bool
) -> None:
    (only,) = routes("web", *BASE, route("r", "api", sends(), port=port))
    assert (only.rule == "default/r/0") is applies


def test_what_vanished_or_cannot_be_called_so_keeps_its_share() -> None:
    rule = HTTPRule(
        backends=(
            backend("gone", 1),
            backend("api", 2, port=8080),
            backend("db", 3),
            backend("api", 4, port=80),
            backend("api", 0),
        )
    )
    items = (*BASE, service("db", Protocol.TCP, 5432), route("r", "api", rule))
    (only,) = routes("web", *items)
    shares = [(share.destination, share.weight) for share in only.shares]
    assert shares == [(None, 1), (None, 2), (None, 3), (target("api"), 4)]


def test_a_rule_without_backends_or_with_zero_weights_has_no_shares() -> None:
    rules = (HTTPRule(), HTTPRule(backends=(backend("api", 0),)))
    assert [each.shares for each in routes("web", *BASE, route("r", "api", *rules))] == [(), ()]


def test_a_route_without_rules_matches_nothing() -> None:
    assert routes("web", *BASE, route("r", "api")) == ()
