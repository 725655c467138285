"""Make before break, one situation at a time."""

from mesh.model.snapshot import Resource
from mesh.xds.protocol import Session
from tests.support.model_envoy import resource
from tests.support.xds_talk import (
    CLUSTER,
    ENDPOINTS,
    LISTENER,
    ROUTE,
    Talk,
    cluster,
    endpoints,
    listener,
    route,
    said,
)


def tcp(cluster: str, name: str = "tcp") -> Resource:
    return resource(LISTENER, name, [(CLUSTER, cluster)])


def served(name: str) -> tuple[Resource, Resource]:
    return cluster(name), endpoints(name)


def test_a_listener_waits_for_the_clusters_of_a_route_that_envoy_lacks() -> None:
    talk = Talk()
    talk.publish()
    talk.settle()
    assert said(talk.publish(*served("a"), route("a"), listener())) == [("CLUSTER", ["a"], [])]
    talk.ask(ENDPOINTS, "a")
    assert talk.ack(ENDPOINTS) == []
    assert said(talk.ack(CLUSTER)) == [("LISTENER", ["web"], [])]


def test_the_first_answer_for_listeners_waits_with_them() -> None:
    """An empty one would make Envoy ready without its listeners."""
    talk = Talk()
    talk.publish(*served("a"), tcp("a"))
    talk.ask(CLUSTER)
    assert talk.ask(LISTENER) == []
    assert said(talk.ack(CLUSTER)) == [("LISTENER", ["tcp"], [])]


def test_a_listener_leaves_before_another_in_doubt_may_need_its_address() -> None:
    talk = Talk()
    talk.publish(*served("a"), tcp("a", "old"))
    talk.settle()
    talk.publish(*served("a"), tcp("a", "new"), tcp("a", "other"))
    assert talk.last[LISTENER].removed == ("old",)
    assert said(talk.nack(LISTENER)) == [("LISTENER", [], ["old"])]
    assert said(talk.ack(LISTENER)) == [("LISTENER", ["new"], [])]


def test_a_changed_cluster_gets_its_last_good_endpoints_when_newer_ones_are_refused() -> None:
    talk = Talk()
    talk.publish(*served("a"))
    talk.settle()
    talk.publish(cluster("a"), endpoints("a", 1))
    assert talk.nack(ENDPOINTS) == []
    clusters, answer = talk.publish(cluster("a", 1), endpoints("a", 1))
    assert clusters.resources == (cluster("a", 1),)
    assert answer.resources == (endpoints("a"),)


def test_a_route_may_name_a_cluster_whose_change_was_refused() -> None:
    talk = Talk()
    talk.publish(*served("a"), *served("b"), route("a"), listener())
    talk.settle()
    rest = endpoints("a"), *served("b"), listener()
    talk.publish(cluster("a", 1), route("a"), *rest)
    talk.ack(ENDPOINTS)
    talk.nack(CLUSTER)
    assert said(talk.publish(cluster("a", 1), route("a", "b"), *rest)) == [("ROUTE", ["web"], [])]


def test_a_cluster_stays_while_a_listener_in_doubt_may_name_it() -> None:
    talk = Talk()
    talk.publish(*served("a"))
    talk.settle()
    talk.publish(*served("a"), tcp("a"), tcp("a", "other"))
    talk.publish()
    assert said(talk.nack(LISTENER)) == [("LISTENER", [], ["other", "tcp"])]
    assert said(talk.ack(LISTENER)) == [("CLUSTER", [], ["a"])]


def test_a_cluster_in_doubt_is_settled_even_if_its_endpoints_were_refused() -> None:
    talk = Talk()
    talk.publish(cluster("a"), *served("b"), endpoints("a"))
    talk.ask(CLUSTER)
    talk.ask(ENDPOINTS, "b")
    talk.nack(ENDPOINTS)
    assert said(talk.nack(CLUSTER)) == [("CLUSTER", ["a"], [])]
    assert said(talk.nack(CLUSTER)) == [("CLUSTER", ["b"], []), ("ENDPOINTS", [], ["b"])]


def test_on_a_new_stream_clusters_stay_until_envoy_has_told_all() -> None:
    talk = Talk()
    has = cluster("a"), listener(), route("a")
    talk.publish(*has, endpoints("a"))
    talk.settle()
    talk.publish()
    talk.session = Session(talk.publisher)
    talk.ask(CLUSTER, has=has[:1])
    talk.ack(CLUSTER)
    assert said(talk.ask(LISTENER, has=has[1:2])) == [("LISTENER", [], ["web"])]
    (answer,) = talk.ask(ROUTE, "web", has=has[2:])
    assert answer.resources == has[2:]
    talk.ack(ROUTE)
    assert talk.ack(LISTENER) == [], "the listener drains and its route is in use"
    assert said(talk.ask(ROUTE, without=("web",))) == [("CLUSTER", [], ["a"])]


def test_on_a_new_stream_a_draining_route_is_heard_of_before_clusters_leave() -> None:
    talk = Talk()
    talk.publish()
    talk.ask(CLUSTER, has=(cluster("a"),))
    talk.ack(CLUSTER)
    assert said(talk.ask(LISTENER)) == [("LISTENER", [], [])], "no removal of the cluster yet"
    talk.ask(ROUTE, "web", has=(route("a"),))
    assert talk.ack(LISTENER) == [], "an earlier agent sent it, so what it names is unknown"


def test_a_kept_listener_whose_route_is_not_yet_known_keeps_every_cluster() -> None:
    talk = Talk()
    has = cluster("a"), listener(), route("a")
    talk.publish(*has, endpoints("a"))
    talk.settle()
    talk.publish(*served("b"), listener(1), route("b"))
    talk.ask(ENDPOINTS, "b")
    talk.ack(ENDPOINTS)
    talk.ack(CLUSTER)
    talk.nack(LISTENER)
    talk.session = Session(talk.publisher)
    talk.ask(CLUSTER, has=(cluster("a"), cluster("b")))
    talk.ack(CLUSTER)
    talk.ask(ENDPOINTS, "b", has=(endpoints("b"),))
    talk.ack(ENDPOINTS)
    talk.ask(LISTENER, has=(listener(),))
    assert talk.ack(LISTENER) == []
    talk.ask(ROUTE, "web", has=(route("a"),))
    assert said(talk.ack(ROUTE)) == [("CLUSTER", [], ["a"])]
