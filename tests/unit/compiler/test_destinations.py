"""Instances and traffic settings of what is called."""

from dataclasses import replace
from datetime import timedelta

from mesh.compiler.view import Destination
from mesh.model.catalog import Catalog, Health
from mesh.model.policy import (
    Address,
    Algorithm,
    InstanceSelector,
    Limits,
    OutlierDetection,
    Policy,
    Protocol,
    Retry,
    Timeouts,
)
from tests.support import sidecars
from tests.support.policies import (
    allow,
    external,
    milliseconds,
    name,
    policies,
    service,
    target,
    traffic,
    view_of,
)
from tests.support.sidecars import endpoint

BASE = (service("api"), allow("api"))


def destination(
    *items: Policy, of: str = "api", caller: str = "web", instances: Catalog | None = None
) -> Destination:
    view = sidecars.view(policies(*items), sidecars.placement(caller), instances=instances)
    return view.destinations[target(of)]


def test_defaults_say_nothing_but_the_algorithm() -> None:
    found = destination(*BASE)
    assert found.algorithm is Algorithm.LEAST_REQUEST
    assert (found.timeouts, found.retry, found.limits) == (Timeouts(), None, Limits())
    assert found.outlier_detection is None
    assert found.peer == "spiffe://mesh.local/ns/default/svc/api"


def test_policies_on_one_destination_are_merged_field_by_field() -> None:
    retry = Retry(attempts=2)
    found = destination(
        *BASE,
        traffic("a", "api", timeouts=Timeouts(connect=milliseconds(1)), retry=retry),
        traffic("b", "api", timeouts=Timeouts(idle=milliseconds(2)), limits=Limits(retries=9)),
        traffic("c", "other", timeouts=Timeouts(request=milliseconds(3))),
    )
    assert found.timeouts == Timeouts(connect=milliseconds(1), idle=milliseconds(2))
    assert (found.retry, found.limits.retries) == (retry, 9)
    assert [each.file for each in found.sources] == [
        "service-default-api.yaml",
        "trafficpolicy-default-a.yaml",
        "trafficpolicy-default-b.yaml",
    ]


def test_should_two_policies_differ_the_older_one_wins() -> None:
    found = destination(
        *BASE,
        traffic("z", "api", limits=Limits(retries=1)),
        traffic("a", "api", limits=Limits(retries=2)),
    )
    assert found.limits.retries == 1


def test_what_is_open_for_a_view_is_as_for_its_service() -> None:
    ejection = OutlierDetection(consecutive_5xx=7)
    items = (
        *BASE,
        view_of("api-v1", "api"),
        traffic("t", "api", limits=Limits(retries=9), outlier_detection=ejection),
        traffic("v", "api-v1", limits=Limits(retries=1)),
    )
    found = destination(*items, of="api-v1")
    assert (found.limits.retries, found.outlier_detection) == (1, ejection)
    assert destination(*items).limits.retries == 9


def test_a_view_that_speaks_another_protocol_takes_nothing_from_its_service() -> None:
    view = replace(view_of("api-raw", "api"), protocol=Protocol.TCP)
    found = destination(*BASE, view, traffic("t", "api", limits=Limits(retries=9)), of="api-raw")
    assert found.limits == Limits()


def test_policies_of_a_third_namespace_are_not_this_callers() -> None:
    policy = traffic("ops/t", "api", limits=Limits(retries=9))
    assert destination(*BASE, policy).limits == Limits()
    assert destination(*BASE, policy, caller="ops/tool").limits.retries == 9


def test_latency_aware_never_goes_without_ejection() -> None:
    policy = traffic("t", "api", algorithm=Algorithm.LATENCY_AWARE)
    detection = destination(*BASE, policy).outlier_detection
    assert detection is not None
    assert (detection.consecutive_5xx, detection.consecutive_gateway_errors) == (3, 3)
    assert detection.base_ejection == timedelta(seconds=30)


def test_what_is_said_about_ejection_stays() -> None:
    own = OutlierDetection(consecutive_5xx=7)
    both = traffic("t", "api", algorithm=Algorithm.LATENCY_AWARE, outlier_detection=own)
    assert destination(*BASE, both).outlier_detection == own
    off = traffic("t", "api", outlier_detection=False)
    assert destination(*BASE, off).outlier_detection is None


INSTANCES = sidecars.catalog(
    endpoint("api", 3, 3, version="v2"),
    endpoint("api", 1, 1, version="v1"),
    endpoint("api", 2, 2, version="v1", zone="a"),
    endpoint("other", 4, 4),
)


def ids(found: Destination) -> list[str]:
    return [each.id for each in found.endpoints]


def test_a_service_has_the_instances_registered_under_its_name_by_id() -> None:
    assert ids(destination(*BASE, instances=INSTANCES)) == ["api-1", "api-2", "api-3"]


def test_a_view_selects_by_meta() -> None:
    items = (*BASE, view_of("v1", "api", version="v1"), view_of("a", "api", zone="a"))
    assert ids(destination(*items, of="v1", instances=INSTANCES)) == ["api-1", "api-2"]
    assert ids(destination(*items, of="a", instances=INSTANCES)) == ["api-2"]
    assert destination(*items, of="a").peer == "spiffe://mesh.local/ns/default/svc/api"


def test_a_view_selects_by_tags_and_datacenter() -> None:
    base = endpoint("api", 1, 1)
    tagged = type(base)(
        id="api-2",
        service=name("api"),
        address="192.0.2.2",
        port=1,
        tags=frozenset({"x", "y"}),
        datacenter="dc1",
        health=Health.UNHEALTHY,
    )
    instances = sidecars.catalog(base, tagged)
    tags = service("tags", instances=InstanceSelector(service=name("api"), tags=frozenset("x")))
    dc = service("dc", instances=InstanceSelector(service=name("api"), datacenter="dc1"))
    items = (*BASE, tags, dc)
    assert ids(destination(*items, of="tags", instances=instances)) == ["api-2"]
    found = destination(*items, of="dc", instances=instances)
    assert [(each.id, each.health) for each in found.endpoints] == [("api-2", Health.UNHEALTHY)]


def test_outside_the_mesh_there_are_addresses_and_no_peer() -> None:
    address = Address("192.0.2.9", 8080)
    found = destination(external("ext", address), allow("external:ext"), of="external:ext")
    assert (found.peer, found.addresses, found.endpoints) == (None, (address,), ())
    assert found.protocol is Protocol.HTTP
