"""What a manifest's entry says of its document."""

import pytest

from mesh.model.identity import ServiceName
from mesh.model.policy import (
    Default,
    InstanceSelector,
    Mesh,
    PolicyKey,
    Protocol,
    Service,
)
from mesh.operations.drafting import check, index
from mesh.operations.reading import Reading, SourceFile
from tests.support.planning import target

API = ServiceName("default", "api")
KEY = PolicyKey("Service", "default", "v1")


@pytest.mark.parametrize(
    ("policy", "targets", "uses", "admits"),
    [
        (Service(key=KEY, protocol=Protocol.HTTP, port=80), [], [], []),
        (
            Service(
                key=KEY,
                protocol=Protocol.HTTP,
                port=80,
                instances=InstanceSelector(service=API),
                dependencies=(ServiceName("shop", "db"), API),
            ),
            ["default/api"],
            ["default/api", "shop/db"],
            [],
        ),
        (Mesh(key=PolicyKey("Mesh", "default", "mesh")), [], [], []),
        (
            Mesh(key=PolicyKey("Mesh", "default", "mesh"), access_default=Default.ALLOW),
            ["Mesh"],
            [],
            ["Mesh"],
        ),
    ],
)
def test_a_view_targets_its_service_and_an_open_mesh_admits_everybody(
    policy, targets, uses, admits
):
    expected = tuple(tuple(map(target, texts)) for texts in (targets, uses, admits))
    assert index(policy) == expected


def test_a_document_whose_json_does_not_fit_a_request_is_told_at_its_place():
    meta = ",".join(f"k{number}: v" for number in range(95_000))
    text = (
        "\napiVersion: mesh/v1\nkind: Service\nmetadata: {name: v1}\n"
        "spec: {protocol: http, port: 80, instances: {service: api, meta: {" + meta + "}}}\n"
        "---\napiVersion: mesh/v1\nkind: Service\nmetadata: {name: api}\n"
        "spec: {protocol: http, port: 80}\n"
    )
    assert len(text) < 1_000_000
    found = check(Reading(files=[SourceFile("big.yaml", text.encode())]))
    assert [(item.code, str(item.position)) for item in found.diagnostics] == [
        ("document-too-large", "big.yaml:2:1")
    ]
