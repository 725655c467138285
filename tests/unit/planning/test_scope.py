"""Which documents concern a service."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.model.identity import ServiceName
from mesh.planning.scope import Scopes, closure
from tests.support.planning import entry, key, manifest, target

WEB = ServiceName("default", "web")
MESH = entry("Mesh/default/mesh")
SERVICES = (
    entry("Service/default/web"),
    entry("Service/default/api"),
    entry("Service/default/stock"),
    entry("Service/shop/cart"),
    entry("ExternalService/default/db"),
)
ADMIT = entry("AccessPolicy/default/api", on=["default/api"], admits=["default/web"])


def names(*entries, service: ServiceName = WEB) -> set[str]:
    found = closure(manifest(MESH, *SERVICES, *entries), service)
    return {f"{item.kind}/{item.namespace}/{item.name}" for item in found}


BASE = {"Mesh/default/mesh", "Service/default/web"}


def test_without_rules_it_is_the_mesh_and_the_service_itself():
    assert names() == BASE


def test_what_admits_a_caller_brings_the_service_and_itself():
    assert names(ADMIT) == BASE | {"Service/default/api", "AccessPolicy/default/api"}


def test_what_admits_another_caller_brings_nothing():
    other = entry("AccessPolicy/default/api", on=["default/api"], admits=["default/other"])
    assert names(other) == BASE


def test_admitting_a_namespace_or_everybody_admits_its_services():
    for admitted in ("Namespace/default", "Mesh"):
        policy = entry("AccessPolicy/shop/cart", on=["shop/cart"], admits=[admitted])
        assert "Service/shop/cart" in names(policy)


def test_a_policy_on_a_namespace_opens_its_services():
    policy = entry("AccessPolicy/shop/all", on=["Namespace/shop"], admits=["default/web"])
    assert "Service/shop/cart" in names(policy)
    assert "Service/default/api" not in names(policy)


def test_a_mesh_that_allows_by_default_brings_every_service():
    found = closure(
        manifest(entry("Mesh/default/mesh", on=["Mesh"], admits=["Mesh"]), *SERVICES), WEB
    )
    assert {item.key for item in SERVICES} <= found


def test_dependencies_are_services_or_external_services():
    web = entry("Service/default/web", uses=["default/stock", "default/db"])
    found = closure(manifest(MESH, *SERVICES[1:], web), WEB)
    assert key("Service/default/stock") in found
    assert key("ExternalService/default/db") in found


def test_views_of_what_may_be_called_come_along():
    view = entry("Service/default/api-v1", on=["default/api"])
    assert "Service/default/api-v1" in names(ADMIT, view)
    assert "Service/default/api-v1" not in names(view)


def test_a_producers_route_and_its_backends_come_along():
    route = entry("HTTPRoute/default/r", on=["default/api"], uses=["default/stock"])
    assert {"HTTPRoute/default/r", "Service/default/stock"} <= names(ADMIT, route)


def test_a_backend_that_is_a_view_brings_the_service_it_is_a_view_of():
    view = entry("Service/default/stock-v1", on=["default/stock"])
    route = entry("HTTPRoute/default/r", on=["default/api"], uses=["default/stock-v1"])
    assert {"Service/default/stock-v1", "Service/default/stock"} <= names(ADMIT, view, route)


def test_a_consumers_route_concerns_its_own_namespace_only():
    ours = entry("HTTPRoute/default/ours", on=["shop/cart"])
    theirs = entry("HTTPRoute/ops/theirs", on=["shop/cart"])
    admit = entry("AccessPolicy/shop/cart", on=["shop/cart"], admits=["Mesh"])
    found = names(admit, ours, theirs)
    assert "HTTPRoute/default/ours" in found
    assert "HTTPRoute/ops/theirs" not in found


def test_traffic_policies_follow_the_destinations():
    ours = entry("TrafficPolicy/default/api", on=["default/api"])
    theirs = entry("TrafficPolicy/shop/cart", on=["shop/cart"])
    found = names(ADMIT, ours, theirs)
    assert "TrafficPolicy/default/api" in found
    assert "TrafficPolicy/shop/cart" not in found


def test_policies_that_protect_the_service_come_along():
    on = {
        "AccessPolicy/default/a": ["default/web"],
        "AccessPolicy/default/b": ["Namespace/default"],
        "AccessPolicy/default/c": ["Mesh"],
        "AccessPolicy/shop/d": ["Namespace/shop"],
    }
    found = names(*(entry(name, on=targets) for name, targets in on.items()))
    assert found & on.keys() == on.keys() - {"AccessPolicy/shop/d"}


def test_denials_on_an_external_service_concern_its_callers():
    admit = entry(
        "AccessPolicy/default/db", on=["ExternalService/default/db"], admits=["default/web"]
    )
    deny = entry("AccessPolicy/default/no", on=["ExternalService/default/db"])
    assert "AccessPolicy/default/no" in names(admit, deny)
    assert "AccessPolicy/default/no" not in names(deny)


def test_the_callable_services_are_told():
    view = entry("Service/default/api-v1", on=["default/api"])
    scopes = Scopes(manifest(MESH, *SERVICES, ADMIT, view))
    assert scopes.callable_by(WEB) == {target("default/api"), target("default/api-v1")}


spots = st.sampled_from(["default/web", "default/api", "shop/cart", "Namespace/shop", "Mesh"])


@given(st.lists(st.tuples(st.lists(spots, min_size=1), st.lists(spots)), max_size=6), st.data())
def test_a_document_outside_the_closure_never_changes_it(policies, data):
    whole = manifest(
        MESH,
        *SERVICES,
        *(
            entry(f"AccessPolicy/default/p{number}", on=on, admits=admits)
            for number, (on, admits) in enumerate(policies)
        ),
    )
    found = closure(whole, WEB)
    outside = sorted(whole.keys() - found)
    if outside:
        gone = data.draw(st.sampled_from(outside))
        rest = {item: value for item, value in whole.items() if item != gone}
        assert closure(rest, WEB) == found


documents = st.one_of(
    st.builds(
        lambda name, on, uses: entry(f"Service/{name}", on=on, uses=uses),
        st.sampled_from(["default/web", "default/api", "shop/cart"]),
        st.lists(st.sampled_from(["default/api", "shop/stock"]), max_size=1),
        st.lists(st.sampled_from(["default/api", "shop/cart"]), max_size=2),
    ),
    st.builds(
        lambda kind, on, admits: entry(f"{kind}/default/p", on=on, admits=admits),
        st.sampled_from(["AccessPolicy", "TrafficPolicy", "HTTPRoute", "Mesh"]),
        st.lists(spots, max_size=2),
        st.lists(spots, max_size=2),
    ),
)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), documents), max_size=12))
def test_an_index_that_follows_changes_is_as_one_that_is_made_anew(changes):
    following, whole = Scopes({}), {}
    for is_there, document in changes:
        if is_there:
            following.put(document)
            whole[document.key] = document
        else:
            following.drop(document.key)
            whole.pop(document.key, None)
        assert following.manifest == whole
        for service in (WEB, ServiceName("shop", "cart")):
            assert following.closure(service) == closure(whole, service)
            assert following.callable_by(service) == Scopes(whole).callable_by(service)
