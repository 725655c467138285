from mesh.model.identity import ServiceName
from mesh.planning import keyspace

API = ServiceName("shop", "api")


def test_an_instances_key_is_read_back():
    key = keyspace.instance(API, "h1-shop-api-1", keyspace.ALIVE)
    assert key == "instances/shop/api/h1-shop-api-1/alive"
    assert keyspace.parse_instance(key) == (API, "h1-shop-api-1", "alive")


def test_other_keys_are_no_instances():
    for key in ("head", "instances/", "instances/a/b/c", "instances/a/b/c/d/e", "sidecars/a/b/c"):
        assert keyspace.parse_instance(key) is None


def test_revisions_sort_as_numbers():
    assert keyspace.revision(9) < keyspace.revision(10) < keyspace.revision(1_000_000)


def test_a_services_prefix_holds_no_other_service():
    longer = ServiceName("shop", "api-v2")
    assert not keyspace.instances(longer).startswith(keyspace.instances(API))
