"""What a session says, message by message."""

from mesh.xds.messages import DeltaRequest
from mesh.xds.protocol import Session
from tests.support.model_envoy import resource
from tests.support.xds_talk import (
    CLUSTER,
    ENDPOINTS,
    EXTENSION,
    LISTENER,
    ROUTE,
    SECRET,
    Talk,
    cluster,
    endpoints,
    listener,
    route,
    said,
)


def test_nothing_is_said_before_the_first_publish() -> None:
    """An adopted Envoy would drop everything on an empty answer."""
    talk = Talk()
    assert talk.ask(CLUSTER, has=(cluster("a"),)) == []
    assert said(talk.publish(cluster("a"), endpoints("a"))) == [("CLUSTER", [], [])]


def test_first_wildcard_is_answered_even_if_empty() -> None:
    talk = Talk()
    talk.publish()
    assert said(talk.ask(CLUSTER)) == [("CLUSTER", [], [])]
    assert talk.ack(CLUSTER) == []
    assert said(talk.ask(LISTENER)) == [("LISTENER", [], [])]


def test_endpoints_do_not_wait_for_the_ack_of_their_cluster() -> None:
    talk = Talk()
    talk.publish(cluster("a"), endpoints("a"))
    assert said(talk.ask(CLUSTER)) == [("CLUSTER", ["a"], [])]
    assert said(talk.ask(ENDPOINTS, "a")) == [("ENDPOINTS", ["a"], [])]


def test_a_changed_cluster_takes_its_endpoints_and_secrets_along() -> None:
    talk = Talk()
    shared = endpoints("a"), resource(SECRET, "leaf")
    talk.publish(cluster("a", secret="leaf"), *shared)
    talk.settle()
    assert said(talk.publish(cluster("a", 1, secret="leaf"), *shared)) == [
        ("CLUSTER", ["a"], []),
        ("ENDPOINTS", ["a"], []),
        ("SECRET", ["leaf"], []),
    ]


def test_a_changed_listener_takes_its_secrets_along() -> None:
    talk = Talk()
    names = ((SECRET, "leaf"),)
    rest = cluster("a"), endpoints("a"), route("a"), resource(SECRET, "leaf")
    talk.publish(listener(0, names=names), *rest)
    talk.settle()
    assert said(talk.publish(listener(1, names=names), *rest)) == [
        ("LISTENER", ["web"], []),
        ("SECRET", ["leaf"], []),
    ]


def test_equal_content_is_not_sent_again() -> None:
    talk = Talk()
    everything = cluster("a"), endpoints("a"), route("a"), listener()
    talk.publish(*everything)
    talk.settle()
    assert talk.publish(*everything) == []
    assert talk.publisher.outcome.generation == 2
    assert talk.publisher.outcome.revision == 7


def test_types_go_out_in_order_and_routes_wait_for_new_clusters() -> None:
    talk = Talk()
    talk.publish(
        *(cluster("a"), endpoints("a"), route("a"), resource(EXTENSION, "access")),
        *(listener(names=((EXTENSION, "access"), (SECRET, "leaf"))), resource(SECRET, "leaf")),
    )
    talk.settle()
    responses = talk.publish(
        *(cluster("a"), endpoints("a", 1), cluster("b"), endpoints("b"), route("a", "b")),
        *(resource(EXTENSION, "access", edition=1), resource(SECRET, "leaf", edition=1)),
        listener(1, names=((EXTENSION, "access"), (SECRET, "leaf"))),
    )
    assert said(responses) == [
        ("SECRET", ["leaf"], []),
        ("CLUSTER", ["b"], []),
        ("ENDPOINTS", ["a"], []),
        ("EXTENSION", ["access"], []),
        ("LISTENER", ["web"], []),
    ]
    talk.ack(ENDPOINTS)
    talk.ask(ENDPOINTS, "b")
    talk.ack(ENDPOINTS)
    assert talk.ack(LISTENER) == [], "the cluster is not warm yet"
    assert said(talk.ack(CLUSTER)) == [("ROUTE", ["web"], [])]


def test_a_route_waits_for_its_changed_listener() -> None:
    talk = Talk()
    rest = cluster("a"), endpoints("a"), cluster("b"), endpoints("b")
    talk.publish(*rest, listener(), route("a"))
    talk.settle()
    assert said(talk.publish(*rest, listener(1), route("b"))) == [("LISTENER", ["web"], [])]
    assert said(talk.ack(LISTENER)) == [("ROUTE", ["web"], [])]


def test_a_cluster_leaves_after_the_route_that_named_it() -> None:
    talk = Talk()
    talk.publish(cluster("a"), endpoints("a"), route("a"), listener())
    talk.settle()
    talk.publish(cluster("b"), endpoints("b"), route("b"), listener())
    talk.ask(ENDPOINTS, "b")
    talk.ack(ENDPOINTS)
    assert said(talk.ack(CLUSTER)) == [("ROUTE", ["web"], [])]
    assert talk.publisher.outcome.generation == 1
    assert said(talk.ack(ROUTE)) == [("CLUSTER", [], ["a"])]
    talk.ack(CLUSTER)
    assert talk.publisher.outcome.generation == 2


def test_news_during_a_response_is_one_response_after_it() -> None:
    talk = Talk()
    talk.publish(cluster("a"), endpoints("a"))
    talk.ask(CLUSTER)
    talk.ask(ENDPOINTS, "a")
    for edition in range(1, 5):
        assert talk.publish(cluster("a"), endpoints("a", edition)) == []
    (response,) = talk.ack(ENDPOINTS)
    assert response.resources == (endpoints("a", 4),)


def test_a_missing_name_is_answered_as_removed() -> None:
    talk = Talk()
    talk.publish()
    assert said(talk.ask(ENDPOINTS, "a")) == [("ENDPOINTS", [], ["a"])]
    talk.ack(ENDPOINTS)
    assert said(talk.publish(endpoints("a"))) == [("ENDPOINTS", ["a"], [])]


def test_what_envoy_has_and_asks_for_is_not_taken_away() -> None:
    talk = Talk()
    talk.publish()
    assert talk.ask(ENDPOINTS, "a", has=(endpoints("a"),)) == []


def test_a_new_stream_answers_names_in_full_and_wildcards_where_they_differ() -> None:
    talk = Talk()
    talk.publish(cluster("a"), cluster("b", 1), endpoints("a"), endpoints("b"))
    (clusters,) = talk.ask(CLUSTER, has=(cluster("a"), cluster("b")))
    assert [item.name for item in clusters.resources] == ["b"]
    (answer,) = talk.ask(ENDPOINTS, "a", "b", has=(endpoints("a"), endpoints("b")))
    assert [item.name for item in answer.resources] == ["a", "b"]


def test_a_refused_response_is_sent_again_one_by_one() -> None:
    talk = Talk()
    clusters = cluster("a"), cluster("b"), cluster("c")
    talk.publish(*clusters, *(endpoints(name) for name in "abc"))
    talk.ask(CLUSTER)
    assert said(talk.nack(CLUSTER)) == [("CLUSTER", ["a"], [])]
    assert said(talk.ack(CLUSTER)) == [("CLUSTER", ["b"], [])]
    assert said(talk.nack(CLUSTER, "b is wrong")) == [("CLUSTER", ["c"], [])]
    assert talk.ack(CLUSTER) == []
    talk.ask(ENDPOINTS, "a", "c")
    talk.ack(ENDPOINTS)
    talk.ask(LISTENER)
    talk.ack(LISTENER)
    (rejection,) = talk.publisher.outcome.rejections
    assert (rejection.name, rejection.detail) == ("b", "b is wrong")
    assert rejection.version == clusters[1].version


def test_what_was_refused_alone_is_never_sent_again() -> None:
    talk = Talk()
    talk.publish(cluster("a"), endpoints("a"))
    talk.settle()
    talk.publish(cluster("a", 1), endpoints("a"))
    talk.ack(ENDPOINTS)
    assert talk.nack(CLUSTER) == []
    assert talk.publish(cluster("a", 1), endpoints("a")) == []
    assert [item.name for item in talk.publisher.outcome.rejections] == ["a"]
    talk.session = Session(talk.publisher)
    (answer,) = talk.ask(CLUSTER, has=(cluster("a"),))
    assert answer.resources == ()
    assert said(talk.publish(cluster("a", 2), endpoints("a"))) == []
    assert said(talk.ack(CLUSTER)) == [("CLUSTER", ["a"], [])]


def test_what_was_refused_for_a_passing_reason_is_offered_again_when_asked() -> None:
    talk = Talk()
    talk.publish(cluster("a"), endpoints("a"))
    talk.settle()
    talk.publish(cluster("a", 1), endpoints("a"))
    talk.ack(ENDPOINTS)
    talk.nack(CLUSTER, "not now")
    assert said(talk.offer_again()) == [("CLUSTER", ["a"], []), ("ENDPOINTS", ["a"], [])]
    assert [each.detail for each in talk.publisher.outcome.rejections] == ["not now"]
    talk.ack(ENDPOINTS)
    talk.ack(CLUSTER)
    assert talk.publisher.outcome.rejections == ()
    assert talk.publisher.outcome.generation == 3


def test_a_fresh_envoy_is_offered_what_its_predecessor_refused() -> None:
    talk = Talk()
    talk.publish(cluster("a"), endpoints("a"))
    talk.ask(CLUSTER)
    talk.nack(CLUSTER)
    talk.session = Session(talk.publisher)
    assert said(talk.ask(CLUSTER)) == [("CLUSTER", ["a"], [])]


def test_what_needs_a_refused_cluster_is_held_back_and_the_old_stays() -> None:
    talk = Talk()
    talk.publish(cluster("a"), endpoints("a"), route("a"), listener())
    talk.settle()
    talk.publish(cluster("b"), endpoints("b"), route("b"), listener())
    assert talk.nack(CLUSTER, "b is wrong") == [], "neither the route nor the removal of a"
    causes = {item.name: item.detail for item in talk.publisher.outcome.rejections}
    assert causes["b"] == "b is wrong"
    assert causes["web"] == 'held back, for it needs cluster "b": b is wrong'
    assert talk.publisher.outcome.generation == 2


def test_a_superseded_session_is_silent() -> None:
    talk = Talk()
    old = talk.session
    talk.publish(cluster("a"))
    Session(talk.publisher)
    assert old.is_superseded
    assert old.receive(DeltaRequest(type=CLUSTER)) == []
    assert old.advance() == []


def test_an_answer_to_another_response_settles_nothing() -> None:
    talk = Talk()
    talk.publish(cluster("a"), endpoints("a"))
    talk.ask(CLUSTER)
    talk.session.receive(DeltaRequest(type=CLUSTER, nonce="other", error="no"))
    talk.publish(cluster("a", 1), endpoints("a"))
    assert said(talk.ack(CLUSTER)) == [("CLUSTER", ["a"], [])]


def test_a_name_that_is_dropped_and_asked_for_again_is_answered() -> None:
    talk = Talk()
    talk.publish(cluster("a"), endpoints("a"))
    talk.settle()
    assert talk.ask(ENDPOINTS, without=("a",)) == []
    assert said(talk.ask(ENDPOINTS, "a")) == [("ENDPOINTS", ["a"], [])]


def test_a_generation_is_not_done_before_envoy_asked_for_all_that_it_uses() -> None:
    talk = Talk()
    talk.publish(cluster("a"), endpoints("a"), route("a"), listener())
    talk.ask(CLUSTER)
    talk.ask(ENDPOINTS, "a")
    talk.ack(ENDPOINTS)
    talk.ack(CLUSTER)
    talk.ask(LISTENER)
    talk.ack(LISTENER)
    assert talk.publisher.outcome.generation == 0
    talk.ask(ROUTE, "web")
    talk.ack(ROUTE)
    assert talk.publisher.outcome.generation == 1
