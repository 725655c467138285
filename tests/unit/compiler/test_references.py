"""What does not fit together is refused before Envoy accepts it in silence."""

import pytest

from mesh.compiler import references
from mesh.compiler.generated import JSON, Generated
from mesh.errors import MeshError
from mesh.model.snapshot import ResourceType

CLUSTER, ENDPOINTS, SECRET = ResourceType.CLUSTER, ResourceType.ENDPOINTS, ResourceType.SECRET
LISTENER, ROUTE, EXTENSION = ResourceType.LISTENER, ResourceType.ROUTE, ResourceType.EXTENSION


def made(
    kind: ResourceType, name: str, json: JSON | None = None, *names: tuple[ResourceType, str]
) -> Generated:
    return Generated(type=kind, name=name, json=json or {}, names=names)


def hosts(action: JSON, **more: object) -> JSON:
    return {"virtual_hosts": [{"routes": [{"route": action, **more}]}]}


@pytest.mark.parametrize(
    ("kind", "json", "missing"),
    [
        (ROUTE, hosts({"cluster": "a"}), (CLUSTER, "a")),
        (ROUTE, hosts({"weighted_clusters": {"clusters": [{"name": "a"}]}}), (CLUSTER, "a")),
        (CLUSTER, {"eds_cluster_config": {"service_name": "a"}}, (ENDPOINTS, "a")),
        (CLUSTER, {"tls": {"secrets": [{"name": "a", "sds_config": {}}]}}, (SECRET, "a")),
        (LISTENER, {"filters": [{"name": "a", "config_discovery": {}}]}, (EXTENSION, "a")),
        (LISTENER, {"filters": [{"rds": {"route_config_name": "a"}}]}, (ROUTE, "a")),
        (LISTENER, {"filters": [{"typed_config": {"cluster": "a"}}]}, (CLUSTER, "a")),
    ],
)
def test_what_is_named_must_be_there_and_be_declared(
    kind: ResourceType, json: JSON, missing: tuple[ResourceType, str]
) -> None:
    there = made(*missing)
    references.check([made(kind, "x", json, missing), there])
    with pytest.raises(MeshError, match=r'"x" names .* "a", which does not exist'):
        references.check([made(kind, "x", json, missing)])
    with pytest.raises(MeshError, match=r'"x" does not declare .* "a"'):
        references.check([made(kind, "x", json), there])


def test_what_is_declared_must_be_there() -> None:
    with pytest.raises(MeshError, match='secret "a"'):
        references.check([made(CLUSTER, "x", {}, (SECRET, "a"))])
    references.check([made(CLUSTER, "x", {}, (SECRET, "a"))], awaited=frozenset({(SECRET, "a")}))


def test_the_cluster_of_what_vanished_is_nowhere() -> None:
    shares = {"weighted_clusters": {"clusters": [{"name": "no-backend"}]}}
    references.check([made(ROUTE, "x", hosts(shares))])


def listener(*filters: str) -> Generated:
    manager = {
        "rds": {"route_config_name": "r"},
        "http_filters": [{"name": each} for each in filters],
    }
    return made(LISTENER, "l", {"filters": [{"typed_config": manager}]}, (ROUTE, "r"))


def test_a_route_configures_only_filters_that_its_listener_has() -> None:
    route = made(ROUTE, "r", hosts({}, typed_per_filter_config={"a": {}}))
    references.check([route, listener("a", "router")])
    with pytest.raises(MeshError, match=r"configures \['a'\]"):
        references.check([route, listener("router")])
    with pytest.raises(MeshError, match=r"configures \['a'\]"):
        references.check([route, listener("a"), listener("router")])
