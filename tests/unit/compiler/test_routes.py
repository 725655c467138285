from datetime import timedelta
from typing import Any

import pytest

from mesh.compiler import routes
from mesh.compiler.memory import Memory
from mesh.compiler.view import Route
from mesh.model.catalog import Health
from mesh.model.policy import (
    Algorithm,
    Filters,
    HeaderModifier,
    HTTPMatch,
    PathMatch,
    PathMatchType,
    ReplacePrefixMatch,
    RequestRedirect,
    Retry,
    RetryOn,
    URLRewrite,
    ValueMatch,
    ValueMatchType,
)
from mesh.model.snapshot import ResourceType
from tests.support.views import HERE, destination, endpoint, external, route, service, share, view

API, V1, V2, OUTSIDE = service("api"), service("v1"), service("v2"), external("outside")
ALL = [destination(each) for each in (API, V1, V2, OUTSIDE)]
SECOND = timedelta(seconds=1)


def _routes(*given: Route, **settings: Any) -> list[Any]:
    """What is generated for `api`, without the answer to what matches nothing."""
    generated = routes.outbound(view(*given, **{"destinations": ALL, **settings}), Memory())
    [host, _] = generated.json["virtual_hosts"]
    *found, last = host["routes"]
    assert last["direct_response"]["status"] == 404
    return found


def _only(given: Route, **settings: Any) -> Any:
    [found] = _routes(given, **settings)
    return found


def _set(value: str) -> Filters:
    return Filters(request_headers=HeaderModifier(set=(("x", value),)))


def _values(part: Any) -> list[str]:
    return [each["header"]["value"] for each in part.get("request_headers_to_add", ())]


def test_a_service_answers_to_its_hosts_with_and_without_its_port() -> None:
    generated = routes.outbound(view(port=8080), Memory())
    [host, unknown] = generated.json["virtual_hosts"]
    assert host["domains"] == [
        "api",
        "api:8080",
        "api.default",
        "api.default:8080",
        "api.default.mesh",
        "api.default.mesh:8080",
    ]
    assert unknown["domains"] == ["*"]


def test_an_unknown_host_is_told_how_to_see_the_known_ones() -> None:
    [*_, unknown] = routes.outbound(view(), Memory()).json["virtual_hosts"]
    [answer] = unknown["routes"]
    assert answer["direct_response"]["status"] == 404
    assert "mesh describe service web" in answer["direct_response"]["body"]["inline_string"]
    assert answer["response_headers_to_add"][0]["header"] == {
        "key": "x-mesh-reason",
        "value": "unknown-host",
    }


def test_routes_keep_their_order_and_name_their_rule() -> None:
    found = _routes(route(share(V2), rule="b/canary"), route(share(V1), rule="a/0"))
    assert [each["name"] for each in found] == ["b/canary", "a/0"]


def test_all_parts_of_a_match() -> None:
    match = HTTPMatch(
        path=PathMatch(PathMatchType.EXACT, "/a"),
        headers=(ValueMatch("x", "1"),),
        query=(ValueMatch("q", "[0-9]", ValueMatchType.REGEX),),
        method="PUT",
    )
    assert _only(route(share(API), match=match))["match"] == {
        "path": "/a",
        "headers": [
            {"name": "x", "string_match": {"exact": "1"}},
            {"name": ":method", "string_match": {"exact": "PUT"}},
        ],
        "query_parameters": [{"name": "q", "string_match": {"safe_regex": {"regex": "[0-9]"}}}],
    }


def test_one_backend_is_a_cluster_and_several_are_weighted() -> None:
    assert _only(route(share(V1), share(V2, 0)))["route"]["cluster"] == "service/default/v1"
    action = _only(route(share(V1, 90), share(V2, 10)))["route"]
    assert action["weighted_clusters"] == {
        "clusters": [
            {"name": "service/default/v1", "weight": 90},
            {"name": "service/default/v2", "weight": 10},
        ]
    }
    assert "cluster_not_found_response_code" not in action


@pytest.mark.parametrize("shares", [(), (share(V1, 0),), (share(None),)])
def test_without_a_backend_it_is_500(shares: tuple[Any, ...]) -> None:
    answer = _only(route(*shares))
    assert answer["direct_response"]["status"] == 500
    assert answer["response_headers_to_add"][0]["header"]["value"] == "no-backend"


def test_the_share_of_a_vanished_backend_is_500_and_named_by_nobody() -> None:
    generated = routes.outbound(
        view(route(share(V1, 3), share(None, 1)), destinations=ALL), Memory()
    )
    action = generated.json["virtual_hosts"][0]["routes"][0]["route"]
    assert action["weighted_clusters"]["clusters"][1] == {"name": "no-backend", "weight": 1}
    assert action["cluster_not_found_response_code"] == "INTERNAL_SERVER_ERROR"
    assert generated.names == ((ResourceType.CLUSTER, "service/default/v1"),)


def test_a_rules_headers_are_the_routes_unless_a_backend_has_its_own() -> None:
    plain = _only(route(share(V1), share(V2), filters=_set("rule")))
    assert _values(plain) == ["rule"]
    apart = _only(route(share(V1, filters=_set("v1")), share(V2), filters=_set("rule")))
    assert _values(apart) == []
    shares = apart["route"]["weighted_clusters"]["clusters"]
    assert [_values(each) for each in shares] == [["v1"], ["rule"]]
    alone = _only(route(share(V1, filters=_set("v1")), filters=_set("rule")))
    assert _values(alone) == ["v1"]


def test_what_must_not_reach_the_caller_is_removed() -> None:
    assert _only(route(share(OUTSIDE)))["response_headers_to_remove"] == ["x-mesh-reason"]
    aware = [destination(V1, algorithm=Algorithm.LATENCY_AWARE), destination(V2)]
    found = _only(route(share(V1), share(V2)), destinations=aware)
    first, second = found["route"]["weighted_clusters"]["clusters"]
    assert first["response_headers_to_remove"] == ["endpoint-load-metrics"]
    assert "response_headers_to_remove" not in second
    assert "response_headers_to_remove" not in routes.outbound(view(), Memory()).json


def test_access_to_an_external_service_is_decided_on_its_share() -> None:
    rules = {OUTSIDE: ()}
    alone = _only(route(share(OUTSIDE)), outbound_access=rules)
    assert "external-access" in alone["typed_per_filter_config"]
    mixed = _only(route(share(OUTSIDE), share(V1)), outbound_access=rules)
    first, second = mixed["route"]["weighted_clusters"]["clusters"]
    assert "external-access" in first["typed_per_filter_config"]
    assert "typed_per_filter_config" not in second
    assert "typed_per_filter_config" not in mixed


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ({}, "0s"),
        ({"timeout": SECOND}, "1s"),
        ({"timeout": timedelta(0)}, "0s"),
        ({"timeout": 3 * SECOND, "backend_timeout": SECOND}, "1s"),
        ({"timeout": timedelta(0), "backend_timeout": SECOND}, "1s"),
        ({"timeout": SECOND, "backend_timeout": timedelta(0)}, "1s"),
    ],
)
def test_without_retries_the_shorter_time_out_holds(times: Any, expected: str) -> None:
    action = _only(route(share(V1), **times))["route"]
    assert action["timeout"] == expected
    assert "retry_policy" not in action


def test_with_retries_each_try_has_its_own_time_out() -> None:
    retry = Retry(attempts=3, on=frozenset({RetryOn.GATEWAY_ERROR}), per_try_timeout=9 * SECOND)
    given = route(share(V1), timeout=3 * SECOND, backend_timeout=SECOND, retry=retry)
    action = _only(given)["route"]
    assert action["timeout"] == "3s"
    assert action["retry_policy"]["per_try_timeout"] == "1s"
    assert "retry_policy" not in _only(route(share(V1), retry=Retry(attempts=0)))["route"]


def test_a_retry_leaves_a_lone_endpoint_for_silent_ones() -> None:
    def priorities(*health: Health) -> bool:
        instances = tuple(endpoint(number, each) for number, each in enumerate(health))
        known = [destination(V1, endpoints=instances)]
        found = _only(route(share(V1), retry=Retry(attempts=1)), destinations=known)
        return "retry_priority" in found["route"]["retry_policy"]

    healthy, silent = Health.HEALTHY, Health.DEGRADED
    assert priorities(healthy, silent)
    assert not priorities(healthy, healthy, silent)
    assert not priorities(healthy)
    assert not priorities(silent)


def test_a_rewrite_is_part_of_the_forwarding() -> None:
    filters = Filters(rewrite=URLRewrite(hostname="b.example", path=ReplacePrefixMatch("/b")))
    match = HTTPMatch(path=PathMatch(PathMatchType.PREFIX, "/a"))
    action = _only(route(share(V1), match=match, filters=filters))["route"]
    assert action["host_rewrite_literal"] == "b.example"
    assert action["regex_rewrite"]["substitution"] == r"/b\1"


def test_a_redirect_keeps_its_match_and_answers_with_its_headers() -> None:
    filters = Filters(
        redirect=RequestRedirect(scheme="https"),
        response_headers=HeaderModifier(set=(("x", "1"),)),
    )
    match = HTTPMatch(headers=(ValueMatch("a", "b"),))
    *hosts, last = _routes(route(match=match, filters=filters))
    assert len(hosts) == 3
    for each in hosts:
        assert [matcher["name"] for matcher in each["match"]["headers"]] == ["a", ":authority"]
    assert [matcher["name"] for matcher in last["match"]["headers"]] == ["a"]
    assert all("response_headers_to_add" in each for each in (*hosts, last))


def test_websockets_are_let_through_on_both_sides() -> None:
    upgrades = [{"upgrade_type": "websocket"}]
    assert _only(route(share(V1)))["route"]["upgrade_configs"] == upgrades
    [host] = routes.inbound(view()).json["virtual_hosts"]
    assert host["routes"][0]["route"]["upgrade_configs"] == upgrades


def test_inbound_is_everything_to_the_application() -> None:
    generated = routes.inbound(view())
    [host] = generated.json["virtual_hosts"]
    [everything] = host["routes"]
    assert host["domains"] == ["*"]
    assert everything["route"]["cluster"] == "app"
    assert everything["route"]["timeout"] == "0s"
    assert generated.json["response_headers_to_remove"] == ["x-mesh-reason"]
    assert generated.names == ((ResourceType.CLUSTER, "app"),)


def test_a_rejection_can_name_every_document() -> None:
    assert routes.outbound(view(route(share(API))), Memory()).sources == (HERE,)
