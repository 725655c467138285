"""What TrafficPolicies do to live requests, through the real Envoy and two hops."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import aiohttp
import pytest

from mesh.model.catalog import Health
from tests.support import routing
from tests.support.routing import Answer, Mesh, Scenario


def _traffic(service: str, **spec: Any) -> str:
    refs = [{"kind": "Service", "name": service}]
    document = {
        "apiVersion": "mesh/v1",
        "kind": "TrafficPolicy",
        "metadata": {"name": service},
        "spec": {"targetRefs": refs, **spec},
    }
    return routing.as_yaml(document)


EJECTION = {"consecutive5xx": 2, "interval": "50ms", "ejection": {"base": "60s", "maxPercent": 50}}

SCENARIOS = {
    "plain": Scenario(""),
    "round-robin": Scenario(_traffic("api", loadBalancer={"algorithm": "round-robin"})),
    "random": Scenario(_traffic("api", loadBalancer={"algorithm": "random"})),
    "latency-aware": Scenario(_traffic("api", loadBalancer={"algorithm": "latency-aware"})),
    "ejection": Scenario(_traffic("api", outlierDetection=EJECTION)),
    "limits": Scenario(_traffic("stock", limits={"requests": 1})),
    "connect": Scenario(_traffic("fragile", retry={"attempts": 9, "on": ["connect-failure"]})),
    "time-out": Scenario(_traffic("stock", timeouts={"request": "300ms"})),
    "amplification": Scenario(_traffic("stock", retry={"attempts": 3, "on": ["5xx"]})),
    "silent": Scenario("", health={"v2": Health.DEGRADED}),
    "all-silent": Scenario("", health={"v1": Health.DEGRADED, "v2": Health.DEGRADED}),
    "failing": Scenario("", health={"v1": Health.UNHEALTHY}),
    "last-resort": Scenario(
        _traffic("api", retry={"attempts": 1, "on": ["5xx"]}), health={"v2": Health.DEGRADED}
    ),
}


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with routing.running(SCENARIOS) as running:
        yield running


def _many(mesh: Mesh, scenario: str, number: int, **request: Any) -> list[Answer]:
    """So many requests, eight at a time."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda _: mesh.ask(scenario, **request), range(number)))


def _backends(answers: list[Answer]) -> Counter[str | None]:
    return Counter(each.backend for each in answers)


def test_round_robin_takes_turns(mesh: Mesh) -> None:
    backends = [mesh.ask("round-robin").backend for _ in range(20)]
    assert all(first != second for first, second in pairwise(backends))


def test_random_and_the_default_reach_every_endpoint(mesh: Mesh) -> None:
    assert _backends(_many(mesh, "random", 60)).keys() == {"v1", "v2"}
    assert _backends(_many(mesh, "plain", 60)).keys() == {"v1", "v2"}


def test_latency_aware_sends_a_slow_endpoint_its_share_of_the_speed(mesh: Mesh) -> None:
    slow = [("x-echo-slow", "v2 0.05")]
    learnt = 0
    for _ in range(40):  # it has learnt when a round goes to the fast one almost alone
        answers = _many(mesh, "latency-aware", 40, headers=slow)
        assert all("endpoint-load-metrics" not in each.headers for each in answers)
        learnt = learnt + 1 if _backends(answers)["v2"] <= 8 else 0
        if learnt == 3:
            return
    pytest.fail("the slow endpoint kept its load")


def test_an_endpoint_that_fails_is_left_out(mesh: Mesh) -> None:
    failing = [("x-echo-fail-at", "v1")]
    statuses = [mesh.ask("ejection", headers=failing).status for _ in range(100)]
    assert 500 in statuses
    assert set(statuses[-50:]) == {200}


def test_a_request_over_the_limit_is_refused_at_once(mesh: Mesh) -> None:
    answers = _many(mesh, "limits", 8, host="stock", headers=[("x-echo-delay", "0.3")])
    kinds = Counter((each.status, each.headers.get("x-mesh-reason")) for each in answers)
    assert kinds == {(200, None): 1, (503, "limit-reached"): 7}


def test_a_dead_application_or_sidecar_is_told_from_an_answer_and_retried_elsewhere(
    mesh: Mesh,
) -> None:
    answers = [mesh.ask("connect", host="fragile") for _ in range(30)]
    assert _backends(answers) == {"steady": 30}


@pytest.mark.parametrize("host", ["deserted", "unplugged"])
def test_without_another_endpoint_it_is_a_connect_failure(mesh: Mesh, host: str) -> None:
    answer = mesh.ask("plain", host=host)
    assert (answer.status, answer.headers["x-mesh-reason"]) == (503, "connect-failure")


def test_a_body_too_large_to_repeat_is_passed_on_all_the_same(mesh: Mesh) -> None:
    body = b"x" * 300_000
    answer = mesh.ask("amplification", host="stock", method="PUT", body=body)
    assert (answer.status, len(answer.asked["body"])) == (200, len(body))


def test_retries_do_not_amplify_an_outage(mesh: Mesh) -> None:
    headers = [("x-echo-status", "503"), ("x-echo-key", "outage"), ("x-echo-delay", "0.02")]
    with ThreadPoolExecutor(40) as pool:
        ask = lambda _: mesh.ask("amplification", host="stock", headers=headers)  # noqa: E731
        answers = list(pool.map(ask, range(800)))
    assert {each.status for each in answers} == {503}
    tries = max(each.asked["tries"] for each in answers)
    # A fifth of all open tries, retries among them, is a quarter of the requests at most.
    assert 800 < tries <= 1.25 * 800


def test_an_endpoint_that_fell_silent_is_the_last_resort(mesh: Mesh) -> None:
    assert _backends(_many(mesh, "silent", 40)) == {"v1": 40}
    assert _backends(_many(mesh, "all-silent", 40)).keys() == {"v1", "v2"}


def test_a_retry_may_use_the_last_resort(mesh: Mesh) -> None:
    failing = [("x-echo-fail-at", "v1")]
    answers = [mesh.ask("last-resort", headers=failing) for _ in range(20)]
    assert _backends(answers) == {"v2": 20}


def test_an_endpoint_whose_check_fails_gets_nothing(mesh: Mesh) -> None:
    assert _backends(_many(mesh, "failing", 40)) == {"v2": 40}


@pytest.mark.parametrize("scenario", ["plain", "time-out"])
async def test_websockets_pass_both_hops_and_outlive_the_time_out(
    mesh: Mesh, scenario: str
) -> None:
    url = f"http://127.0.0.1:{mesh.envoy.ports[scenario]}/chat"
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, headers={"Host": "stock"}) as socket,
    ):
        await socket.send_str("hello")
        assert await socket.receive_str() == "stock: hello"
        with pytest.raises(TimeoutError):
            await socket.receive(timeout=0.5)
        await socket.send_str("still there")
        assert await socket.receive_str() == "stock: still there"
