"""What Envoy asked for, has, and may have."""

from mesh.model.snapshot import Resource, ResourceType
from mesh.xds.messages import DeltaRequest, DeltaResponse
from mesh.xds.subscription import Subscription
from tests.support.model_envoy import resource

A, B = resource(ResourceType.CLUSTER, "a"), resource(ResourceType.CLUSTER, "b")


def _wildcard(**versions: str) -> Subscription:
    return Subscription(DeltaRequest(type=ResourceType.CLUSTER, initial_versions=versions))


def _response(*resources: Resource, removed: tuple[str, ...] = ()) -> DeltaResponse:
    return DeltaResponse(type=ResourceType.CLUSTER, resources=resources, removed=removed, nonce="1")


def test_clusters_without_names_are_a_wildcard_and_routes_are_not() -> None:
    assert _wildcard().wants("anything")
    assert not Subscription(DeltaRequest(type=ResourceType.ROUTE)).wants("anything")
    star = DeltaRequest(type=ResourceType.CLUSTER, subscribe=("*", "a"))
    assert Subscription(star).wants("b")


def test_a_wildcard_is_given_up_by_its_star() -> None:
    subscription = _wildcard()
    subscription.change(DeltaRequest(type=ResourceType.CLUSTER, unsubscribe=("*",)))
    assert not subscription.wants("a")
    subscription.change(DeltaRequest(type=ResourceType.CLUSTER, subscribe=("*",)))
    assert subscription.wants("a")
    assert subscription.is_answer_owed


def test_retargeting_finds_what_differs_and_what_is_gone() -> None:
    subscription = _wildcard(a=A.version, b="old", c="gone")
    subscription.retarget({"a": A, "b": B})
    assert subscription.due == {"b", "c"}


def test_a_removal_counts_from_the_moment_it_is_sent() -> None:
    subscription = _wildcard(a=A.version)
    subscription.sent(_response(removed=("a",)))
    assert not subscription.has("a")


def test_a_refused_batch_leaves_doubt_about_each_of_it() -> None:
    subscription = _wildcard(a="old")
    subscription.sent(_response(A, B, removed=("c",)))
    assert subscription.refuse(subscription.in_flight or _response()) is None
    assert subscription.doubtful.keys() == {"a", "b", "c"}
    assert subscription.has("a"), "some version of it"
    assert subscription.may_have("b")
    assert not subscription.has("b")


def test_a_lone_refusal_clears_the_doubt_about_this_version_only() -> None:
    subscription = _wildcard()
    subscription.refuse(_response(A, B))
    newer = resource(ResourceType.CLUSTER, "b", edition=1)
    assert subscription.refuse(_response(A)) == A
    assert subscription.refuse(_response(newer)) == newer
    assert subscription.doubtful == {"b": B.version}


def test_accepting_ends_all_doubt() -> None:
    subscription = _wildcard()
    subscription.refuse(_response(A, B, removed=("c",)))
    subscription.accept(_response(A, removed=("b", "c")))
    assert not subscription.doubtful
    assert subscription.accepted == {"a": A.version}


def test_unsubscribing_forgets() -> None:
    subscription = Subscription(
        DeltaRequest(type=ResourceType.ROUTE, subscribe=("r",), initial_versions={"r": "1"})
    )
    subscription.change(DeltaRequest(type=ResourceType.ROUTE, unsubscribe=("r",)))
    assert not subscription.has("r")
    assert not subscription.asked
