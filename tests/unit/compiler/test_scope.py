"""Who a sidecar can name, and what it needs to know for that."""

from collections.abc import Iterable

import pytest

from mesh.compiler.scope import Reach, Wanted, build_view
from mesh.compiler.view import View
from mesh.model.catalog import Catalog
from mesh.model.identity import TrustBundle
from mesh.model.policy import (
    AccessRule,
    Action,
    Address,
    Default,
    HTTPRule,
    Operation,
    Policy,
    Protocol,
)
from tests.support import sidecars
from tests.support.policies import (
    access,
    allow,
    backend,
    external,
    mesh,
    name,
    policies,
    route,
    rule,
    service,
    target,
    traffic,
    view_of,
)


def seen_by(caller: str, *items: Policy, catalog: Catalog | None = None) -> View:
    place = sidecars.placement(caller, app=8080)
    return sidecars.view(policies(*items), place, instances=catalog)


def names(view: View) -> list[str]:
    return [str(each.target.service) for each in view.services]


def called(view: View) -> Iterable[str]:
    return sorted(str(each.service) for each in view.destinations)


def test_nobody_may_call_anybody_by_default() -> None:
    view = seen_by("web", service("api"), service("web"))
    assert names(view) == []
    assert called(view) == []


@pytest.mark.parametrize(
    ("on", "callers", "is_seen"),
    [
        ("api", ["web"], True),
        ("api", ["default/*"], True),
        ("api", [], True),
        ("api", ["ops/web"], False),
        ("api", ["ops/*", "other"], False),
        ("namespace:default", ["web"], True),
        ("namespace:ops", ["web"], False),
        ("mesh:", ["web"], True),
        ("mesh:", ["other"], False),
    ],
)
def test_access_policies_that_admit_make_the_scope(
    on: str, callers: list[str], is_seen: bool
) -> None:
    view = seen_by("web", service("api"), allow(on, *callers))
    assert names(view) == (["default/api"] if is_seen else [])


def test_an_audit_rule_admits_and_a_deny_rule_does_not() -> None:
    for action, expected in ((Action.AUDIT, ["default/api"]), (Action.DENY, [])):
        view = seen_by("web", service("api"), access("api", "api", rule(action, "web")))
        assert names(view) == expected


def test_a_view_is_admitted_to_as_its_base_is() -> None:
    view = seen_by("web", service("api"), view_of("api-v1", "api"), allow("api", "web"))
    assert names(view) == ["default/api", "default/api-v1"]


def test_a_view_in_another_namespace_is_protected_where_its_instances_are() -> None:
    items = (service("shop/api"), view_of("web/api", "shop/api"))
    assert names(seen_by("web", *items, allow("namespace:web", "web"))) == []
    assert names(seen_by("web", *items, allow("namespace:shop", "web"))) == ["shop/api", "web/api"]


def test_declared_dependencies_are_the_whole_scope() -> None:
    web = service("web", dependencies=(name("stock"), name("ext"), name("nothing")))
    items = (web, service("api"), service("stock"), external("ext"))
    view = seen_by("web", *items, allow("api", "web"), allow("external:ext", "web"))
    assert names(view) == ["default/ext", "default/stock"]
    assert names(seen_by("web", service("web", dependencies=()), service("api"))) == []


def test_where_the_mesh_allows_by_default_everything_is_in_scope() -> None:
    registered = Catalog(names=frozenset({name("jobs"), name("api")}))
    items = (mesh(Default.ALLOW), service("api", port=81), external("ext"))
    view = seen_by("web", *items, catalog=registered)
    assert names(view) == ["default/ext", "default/api", "default/jobs"]
    ports = {str(each.target.service): each.port for each in view.services}
    assert ports == {"default/api": 81, "default/ext": 80, "default/jobs": 80}


def test_a_registered_name_without_a_document_is_nothing_by_default() -> None:
    registered = Catalog(names=frozenset({name("jobs")}))
    assert names(seen_by("web", allow("mesh:"), catalog=registered)) == []


def test_hosts_are_short_in_the_callers_namespace_only() -> None:
    items = (service("api"), service("shop/api"), allow("mesh:"))
    hosts = {str(each.target.service): each.hosts for each in seen_by("web", *items).services}
    assert hosts == {
        "default/api": ("api", "api.default", "api.default.mesh"),
        "shop/api": ("api.shop", "api.shop.mesh"),
    }


def test_a_service_wins_over_an_external_service_of_its_name() -> None:
    view = seen_by("web", mesh(Default.ALLOW), external("api"), service("api"))
    assert [each.target for each in view.services] == [target("api")]


def test_external_services_need_a_policy_of_their_own() -> None:
    items = (external("ext"), allow("mesh:"), allow("namespace:default"))
    assert names(seen_by("web", *items)) == []
    assert names(seen_by("web", *items, allow("external:ext", "web"))) == ["default/ext"]


def test_backends_are_called_without_being_hosts() -> None:
    view = seen_by(
        "web",
        service("api"),
        service("hidden"),
        external("ext"),
        allow("api", "web"),
        route("api", "api", HTTPRule(backends=(backend("hidden"), backend("external:ext")))),
    )
    assert names(view) == ["default/api"]
    assert called(view) == ["default/ext", "default/hidden"]
    assert list(view.outbound_access) == [target("external:ext")]


def test_tcp_services_are_upstreams_and_no_hosts() -> None:
    items = (service("db", Protocol.TCP, 5432), allow("db", "web"))
    place = sidecars.placement("web", upstreams=("db", "other"))
    view = sidecars.view(policies(*items), place)
    assert names(view) == []
    assert [each.destination for each in view.upstreams] == [target("db")]
    assert Reach(policies(*items), name("web")).tcp_upstreams == (name("db"),)
    assert Reach(policies(*items), name("api")).tcp_upstreams == ()


def test_a_tcp_service_without_an_address_yet_waits() -> None:
    view = seen_by("web", service("db", Protocol.TCP, 5432), allow("db", "web"))
    assert view.upstreams == ()
    assert called(view) == ["default/db"]


@pytest.mark.parametrize(
    ("rules", "is_there"),
    [
        ([rule(Action.ALLOW, "web")], True),
        ([rule(Action.ALLOW, "ops")], False),
        ([rule(Action.AUDIT, "web")], False),
        ([rule(Action.ALLOW, "web"), rule(Action.DENY, "default/*", called="no")], False),
        ([rule(Action.ALLOW, "web", operations=(Operation(methods=("GET",)),))], False),
    ],
)
def test_tcp_outside_the_mesh_is_there_only_for_who_may_talk(
    rules: list[AccessRule], is_there: bool
) -> None:
    ext = external("ext", Address("192.0.2.1", 5432), protocol=Protocol.TCP, port=5432)
    items = policies(ext, access("ext", "external:ext", *rules))
    assert Reach(items, name("web")).tcp_upstreams == ((name("ext"),) if is_there else ())


def test_interest_is_in_the_instances_behind_what_may_be_called() -> None:
    items = policies(
        service("api"),
        service("other"),
        view_of("api-v1", "api"),
        view_of("stock-eu", "shop/stock"),
        external("ext"),
        allow("api", "web"),
        allow("external:ext", "web"),
        route("api", "api", HTTPRule(backends=(backend("api-v1"), backend("stock-eu")))),
    )
    wanted = Reach(items, name("web")).interest
    assert wanted == Wanted(frozenset({name("api"), name("shop/stock")}), names=False)


def test_interest_is_in_all_names_where_the_mesh_allows_by_default() -> None:
    items = policies(mesh(Default.ALLOW), service("api"))
    assert Reach(items, name("web")).interest == Wanted(frozenset({name("api")}), names=True)
    registered = frozenset({name("jobs")})
    wanted = Reach(items, name("web"), registered).interest
    assert wanted == Wanted(frozenset({name("api"), name("jobs")}), names=True)


def test_what_protects_the_application_is_of_its_service_namespace_and_mesh() -> None:
    items = (
        service("web", Protocol.GRPC, 50051),
        allow("web", "a"),
        allow("namespace:default", "b"),
        allow("namespace:ops", "c"),
        allow("mesh:", "d"),
        allow("api", "e"),
    )
    inbound = seen_by("web", *items).inbound
    assert inbound is not None
    assert inbound.protocol is Protocol.GRPC
    found = sorted(policy.rules[0].callers[0].service or "" for policy, _ in inbound.access)
    assert found == ["a", "b", "d"]


def test_an_application_without_a_document_speaks_http() -> None:
    inbound = seen_by("web").inbound
    assert inbound is not None
    assert (inbound.protocol, inbound.access_default) == (Protocol.HTTP, Default.DENY)


def test_a_caller_only_sidecar_has_nothing_inbound() -> None:
    assert sidecars.view(policies(), sidecars.placement("web")).inbound is None


def test_the_trust_domain_is_the_authoritys_else_the_documents() -> None:
    items = policies(mesh(trust_domain="a.example"))

    def domain(bundle: TrustBundle | None) -> str:
        return build_view(
            revision=1,
            policies=items,
            catalog=Catalog(),
            placement=sidecars.placement("web"),
            svid=None,
            bundle=bundle,
        ).trust_domain

    assert domain(None) == "a.example"
    assert domain(TrustBundle("b.example", b"roots")) == "b.example"


def test_a_service_names_the_documents_it_comes_from() -> None:
    view = seen_by(
        "web",
        service("api"),
        allow("api", "web"),
        traffic("api", "api"),
        traffic("other", "other"),
        route("r", "api", HTTPRule(backends=(backend("api"),))),
    )
    (only,) = view.services
    assert [each.file for each in only.sources] == [
        "httproute-default-r.yaml",
        "service-default-api.yaml",
        "trafficpolicy-default-api.yaml",
    ]
