"""Looking policies up by what they are about."""

from mesh.compiler.directory import directory, implicit
from mesh.model.policy import Default, Protocol
from tests.support.policies import (
    allow,
    mesh,
    name,
    policies,
    target,
    traffic,
)


def test_without_a_mesh_document_its_defaults_hold() -> None:
    assert directory(policies()).mesh.access_default is Default.DENY
    assert directory(policies(mesh(Default.ALLOW))).mesh.access_default is Default.ALLOW


def test_policies_of_a_target_come_by_age() -> None:
    found = directory(policies(traffic("z", "a"), traffic("b", "a"), traffic("a", "other")))
    assert [policy.key.name for policy, _ in found.traffic[target("a")]] == ["z", "b"]


def test_what_protects_a_service_comes_once_and_by_name() -> None:
    both = allow("mesh:", "x")
    both = type(both)(
        key=both.key, targets=(target("a"), target("namespace:default"), target("mesh:"))
    )
    found = directory(policies(both, allow("a"), allow("namespace:default"), allow("namespace:b")))
    names = [policy.key.name for policy, _ in found.protecting(name("a"))]
    assert names == ["a", "mesh-", "namespace-default"]


def test_a_registered_name_alone_is_an_http_service() -> None:
    item = implicit(name("ops/jobs"))
    assert item.target == target("ops/jobs")
    assert (item.service.protocol, item.service.port, item.entry) == (Protocol.HTTP, 80, None)
