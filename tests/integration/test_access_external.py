"""ExternalServices: the caller's own sidecar decides who may ask what."""

from collections.abc import Iterator, Mapping

import pytest

from mesh.model.policy import AccessPathType, Action, Address, HTTPRule, Operation
from mesh.model.revision import Policies
from tests.support import echo, sidecars
from tests.support.envoy import RunningEnvoy
from tests.support.policies import access, allow, backend, external, policies, route, rule, service

DENIED = (403, "access-denied")


def policies_for(port: int) -> Policies:
    address = Address(sidecars.HOST, port)
    reads = Operation(methods=("GET",), paths=((AccessPathType.PREFIX, "/open"),))
    return policies(
        service("api"),
        external("payments", address),
        external("closed", address),
        access(
            "payments",
            "external:payments",
            rule(Action.ALLOW, "web", called="web-reads", operations=(reads,)),
            rule(Action.ALLOW, "ops", called="ops-all"),
            rule(Action.AUDIT, "guest", called="guests"),
        ),
        allow("api", "web", "ops"),
        # Half of api's requests leave the mesh; a backend that nobody may call refuses its share.
        route(
            "api",
            "api",
            HTTPRule(backends=(backend("external:payments"),)),
        ),
        route("payments", "external:closed", HTTPRule(backends=(backend("external:closed"),))),
    )


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mapping[str, RunningEnvoy]]:
    with (
        echo.running(["payments"]) as ports,
        sidecars.running(
            policies_for(ports["payments"]), apps={}, callers=("web", "ops", "guest", "other")
        ) as found,
    ):
        yield found


def ask(
    mesh: Mapping[str, RunningEnvoy], caller: str, path: str, host: str = "payments", **more: str
) -> tuple[int, str | None]:
    answer = sidecars.request(mesh[caller].ports["outbound"], path, host=host, **more)
    return answer.status, answer.reason


def test_operations_are_decided_by_the_callers_sidecar(mesh: Mapping[str, RunningEnvoy]) -> None:
    assert ask(mesh, "web", "/open/1") == (200, None)
    assert ask(mesh, "web", "/open/1", method="POST") == DENIED
    assert ask(mesh, "web", "/secret") == DENIED
    assert ask(mesh, "web", "/open/../secret") == DENIED
    assert ask(mesh, "web", "/open/;/1") == DENIED
    assert ask(mesh, "ops", "/secret", method="POST") == (200, None)


def test_as_a_backend_it_is_protected_just_so(mesh: Mapping[str, RunningEnvoy]) -> None:
    assert ask(mesh, "web", "/open/1", host="api") == (200, None)
    assert ask(mesh, "web", "/secret", host="api") == DENIED


def test_who_is_not_admitted_does_not_know_the_name(mesh: Mapping[str, RunningEnvoy]) -> None:
    assert ask(mesh, "other", "/open/1") == (404, "unknown-host")
    assert ask(mesh, "web", "/open/1", host="closed") == (404, "unknown-host")


def test_audit_alone_records_and_still_refuses(mesh: Mapping[str, RunningEnvoy]) -> None:
    assert ask(mesh, "guest", "/open/1") == DENIED
    counted = mesh["guest"].stats("http.outbound.rbac.")
    assert counted["policy.default/payments/guests.shadow_allowed"] > 0


def test_an_answer_from_outside_carries_no_reason_of_ours(
    mesh: Mapping[str, RunningEnvoy],
) -> None:
    headers = {"x-echo-answer": "x-mesh-reason=fake"}
    port = mesh["web"].ports["outbound"]
    answer = sidecars.request(port, "/open/1", host="payments", headers=headers)
    assert (answer.status, answer.reason) == (200, None)
