"""From a view to bytes: versions, names, places, memory of the last snapshot."""

import hashlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.compiler import assemble
from mesh.compiler.assemble import Assembler, compile_view
from mesh.compiler.generated import Generated
from mesh.compiler.view import View
from mesh.diagnostics import Position
from mesh.errors import MeshError
from mesh.model.policy import (
    Action,
    Algorithm,
    Default,
    HTTPRule,
    Limits,
    Policy,
    Protocol,
)
from mesh.model.revision import Policies
from mesh.model.snapshot import ResourceType, Snapshot
from tests.support import sidecars
from tests.support.policies import (
    access,
    allow,
    backend,
    external,
    mesh,
    policies,
    route,
    rule,
    service,
    traffic,
    view_of,
)

AUTHORITY = sidecars.Authority()
SVID = AUTHORITY.svid(sidecars.name("web"))
PLACE = sidecars.placement("web", app=8080, upstreams=("db",))
INSTANCES = sidecars.catalog(sidecars.endpoint("api", 1), sidecars.endpoint("api", 2, 2))


def view_from(items: Policies) -> View:
    return sidecars.build_view(
        revision=1,
        policies=items,
        catalog=INSTANCES,
        placement=PLACE,
        svid=SVID,
        bundle=AUTHORITY.bundle,
    )


def snapshot(*items: Policy) -> Snapshot:
    return compile_view(view_from(policies(*items)))


SHOP: tuple[Policy, ...] = (
    service("web"),
    service("api"),
    view_of("api-v1", "api", version="v1"),
    service("db", Protocol.TCP, 5432),
    external("ext"),
    allow("api", "web"),
    allow("db", "web"),
    allow("external:ext", "web"),
    allow("web", "gate"),
    route("api", "api", HTTPRule(backends=(backend("api-v1"), backend("external:ext")))),
    traffic("api", "api", algorithm=Algorithm.LATENCY_AWARE),
)


def test_a_resource_is_its_bytes_and_their_digest() -> None:
    found = snapshot(*SHOP)
    assert found.revision == 1
    for kind in ResourceType:
        assert found.of(kind), kind
        for name, resource in found.of(kind).items():
            message = assemble.MESSAGES[kind]()
            message.ParseFromString(resource.body)
            assert resource.version == hashlib.sha256(resource.body).hexdigest()
            assert (resource.type, resource.name) == (kind, name)
            assert {resource.name} <= {
                getattr(message, "name", ""),
                getattr(message, "cluster_name", ""),
            }


def test_every_reference_resolves() -> None:
    found = snapshot(*SHOP)
    for kind in ResourceType:
        for resource in found.of(kind).values():
            for other, name in resource.names:
                assert name in found.of(other), (resource.name, other, name)


def test_resources_name_the_documents_they_come_from() -> None:
    clusters = snapshot(*SHOP).of(ResourceType.CLUSTER)
    assert clusters["external/default/ext"].sources == (
        Position("externalservice-default-ext.yaml"),
    )


def test_no_certificate_is_no_reason_to_fail() -> None:
    found = compile_view(sidecars.view(policies(*SHOP), PLACE))
    assert found.of(ResourceType.SECRET) == {}
    assert found.of(ResourceType.EXTENSION) == {}
    assert "inbound" not in found.of(ResourceType.LISTENER)
    assert "inbound" not in found.of(ResourceType.ROUTE)


def test_a_misspelt_field_is_our_mistake_and_is_refused() -> None:
    wrong = Generated(type=ResourceType.CLUSTER, name="c", json={"name": "c", "lb_polcy": "RANDOM"})
    with pytest.raises(MeshError, match="lb_polcy") as caught:
        Assembler().assembled([wrong], 1)
    assert caught.value.exit_code == 70


def test_an_assembler_answers_as_if_it_had_no_memory() -> None:
    assembler = Assembler()
    for count in (len(SHOP), 9, len(SHOP), 7, 0, len(SHOP)):
        view = view_from(policies(*SHOP[:count]))
        assert assembler.compile(view) == compile_view(view)


# --- Properties -----------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False))
def test_equal_inputs_in_any_order_give_equal_bytes(randomness: random.Random) -> None:
    known = policies(*SHOP)
    keys = list(known)
    randomness.shuffle(keys)
    shuffled = {key: known[key] for key in keys}
    assert compile_view(view_from(shuffled)) == compile_view(view_from(known))


# Policies of services that web may not call, in its namespace and in another one.
STRANGE = st.lists(
    st.one_of(
        st.builds(service, st.sampled_from(["x", "ops/x"]), st.sampled_from(Protocol)),
        st.builds(
            lambda name, on, who, action: access(name, on, rule(action, who)),
            st.sampled_from(["p", "ops/q"]),
            st.sampled_from(["x", "ops/x", "namespace:ops", "external:y"]),
            st.sampled_from(["other", "ops/*"]),
            st.sampled_from(Action),
        ),
        st.builds(
            lambda name, on, to: route(name, on, HTTPRule(backends=(backend(to),))),
            st.sampled_from(["r", "ops/r"]),
            st.sampled_from(["x", "ops/x", "external:y"]),
            st.sampled_from(["api", "x", "external:y"]),
        ),
        st.builds(
            lambda name, on, number: traffic(name, on, limits=Limits(retries=number)),
            st.sampled_from(["t", "ops/t"]),
            st.sampled_from(["x", "ops/x", "external:y"]),
            st.integers(1, 5),
        ),
        st.builds(external, st.sampled_from(["y", "ops/y"])),
    ),
    max_size=8,
    unique_by=lambda item: item.key,
)


@settings(max_examples=60, deadline=None)
@given(STRANGE)
def test_what_does_not_touch_a_sidecar_never_changes_its_snapshot(strange: list[Policy]) -> None:
    assert snapshot(*SHOP, *strange) == snapshot(*SHOP)


def test_what_does_touch_it_does() -> None:
    assert snapshot(*SHOP, allow("namespace:default", "web"), service("x")) != snapshot(*SHOP)
    assert snapshot(*SHOP, mesh(Default.ALLOW)) != snapshot(*SHOP)
