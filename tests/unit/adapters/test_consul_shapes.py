from datetime import timedelta

import pytest
import structlog

from mesh.adapters.consul.shapes import definition, instances, node, service_ids, service_names
from mesh.errors import InputError
from mesh.model.catalog import Endpoint, Health
from mesh.model.identity import ServiceName

API = ServiceName("shop", "api")
ENDPOINT = Endpoint(
    id="h1",
    service=API,
    address="192.0.2.1",
    port=7,
    meta={"version": "v1"},
    tags=frozenset({"blue"}),
    datacenter="dc1",
)


def entry(*checks, address="192.0.2.1", **meta):
    """An entry of /v1/health/service as Consul gives it."""
    said = {"mesh-namespace": "shop", "mesh-id": "h1", "mesh-health": "healthy", "version": "v1"}
    return {
        "Node": {
            "Node": "n1",
            "ID": "4f",
            "Address": "192.0.2.9",
            "Datacenter": "dc1",
            "CreateIndex": 13,
        },
        "Service": {
            "ID": "h1",
            "Service": "api",
            "Tags": ["mesh-namespace=shop", "blue"],
            "Address": address,
            "Port": 7,
            "Meta": said | {name.replace("_", "-"): text for name, text in meta.items()},
        },
        "Checks": [{"CheckID": name, "Status": status} for name, status in checks],
    }


def health(*checks, **meta):
    (found,) = instances([entry(*checks, **meta)])
    return found.endpoint.health, found.is_silent


def test_an_entry_is_an_endpoint():
    (found,) = instances([entry(("mesh:h1", "passing"), ("serfHealth", "passing"))])
    assert found.endpoint == ENDPOINT
    assert (found.node.name, found.node.id, found.node.created) == ("n1", "4f", "13")


def test_a_service_without_an_address_is_at_its_node():
    (found,) = instances([entry(address="")])
    assert found.endpoint.address == "192.0.2.9"


@pytest.mark.parametrize(
    ("checks", "meta", "expected"),
    [
        ([("mesh:h1", "passing")], {}, (Health.HEALTHY, False)),
        ([("mesh:h1", "warning")], {}, (Health.HEALTHY, False)),
        ([("mesh:h1", "critical")], {}, (Health.DEGRADED, True)),
        ([("serfHealth", "critical")], {}, (Health.DEGRADED, True)),
        ([("mesh:h1", "critical")], {"mesh_health": "unhealthy"}, (Health.UNHEALTHY, False)),
        ([("mesh:h1", "passing")], {"mesh_health": "unhealthy"}, (Health.UNHEALTHY, False)),
        ([("disk", "critical")], {}, (Health.UNHEALTHY, False)),
        ([("_node_maintenance", "critical")], {}, (Health.UNHEALTHY, False)),
        ([("disk", "critical"), ("serfHealth", "critical")], {}, (Health.UNHEALTHY, True)),
    ],
)
def test_checks_and_meta_say_how_an_instance_is(checks, meta, expected):
    assert health(*checks, **meta) == expected


@pytest.mark.parametrize(
    "answer", [None, {}, [None], [{}], ["x"], [{"Service": {"Meta": None}}], [{"Service": []}]]
)
def test_answers_of_another_shape_have_no_instances(answer):
    assert instances(answer) == ()


def test_services_of_others_have_no_instances():
    other = entry()
    del other["Service"]["Meta"]["mesh-id"]
    assert instances([other]) == ()


@pytest.mark.parametrize("address", ["h1.example", "fe80::1%eth0"])
def test_an_instance_without_an_ip_address_is_passed_over(address):
    with structlog.testing.capture_logs() as logs:
        assert [one.endpoint.id for one in instances([entry(address=address), entry()])] == ["h1"]
    assert logs[0]["address"] == address


def test_names_come_from_tags():
    answer = {
        "api": ["mesh-namespace=shop", "blue", "mesh-namespace=default"],
        "consul": [],
        "db": ["blue"],
        "odd": None,
    }
    assert service_names(answer) == {API, ServiceName("default", "api")}
    assert service_names(None) == frozenset()


def test_ids_and_nodes_are_read():
    assert service_ids({"a": {}, "b": {}}) == {"a", "b"}
    assert node(None) is None
    assert node({"Node": {"Node": "n", "ID": "1", "CreateIndex": 2}}).created == "2"


def test_a_registration_says_everything():
    said = definition(ENDPOINT, timedelta(seconds=10))
    assert (said["Name"], said["ID"], said["Port"]) == ("api", "h1", 7)
    assert said["Tags"] == ["mesh-namespace=shop", "blue"]
    (check,) = said["Checks"]
    assert check["TTL"] == "10s"
    assert check["DeregisterCriticalServiceAfter"] == "10m"


def test_a_ttl_below_a_second_keeps_its_fraction():
    (check,) = definition(ENDPOINT, timedelta(milliseconds=1500))["Checks"]
    assert check["TTL"] == "1.5s"


@pytest.mark.parametrize("key", ["mesh-namespace", "mesh-id", "mesh-health"])
def test_the_meshs_own_meta_is_refused(key):
    bad = Endpoint(id="h1", service=API, address="192.0.2.1", port=7, meta={key: "x"})
    with pytest.raises(InputError, match=key):
        definition(bad, timedelta(seconds=10))
