"""Generated JSON as messages: as protobuf's own reader has it, mistakes and order included."""

from pathlib import Path
from typing import Any

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.base_pb2 import DataSource
from envoy.config.listener.v3.listener_pb2 import Listener
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import Message
from hypothesis import given, settings

from mesh.compiler.assemble import MESSAGES, generate
from mesh.compiler.memory import Memory
from mesh.compiler.messages import parsed
from mesh.compiler.view import View
from mesh.model.policy import Policy
from tests.support import sidecars
from tests.support.golden import CASES, Case
from tests.support.meshes import MESHES, indexed

AUTHORITY = sidecars.Authority()
TYPE = "type.googleapis.com/envoy.extensions."


def check(view: View) -> None:
    for each in generate(view, Memory()):
        kind = MESSAGES[each.type]
        found = MessageToDict(parsed(kind, each.json))
        assert found == MessageToDict(ParseDict(each.json, kind()))


@pytest.mark.parametrize("folder", CASES, ids=[folder.name for folder in CASES])
def test_a_case_reads_as_protobuf_reads_it(folder: Path) -> None:
    check(Case(folder).view(AUTHORITY))


@settings(max_examples=50, deadline=None)
@given(MESHES)
def test_a_mesh_reads_as_protobuf_reads_it(items: list[Policy]) -> None:
    view = sidecars.view(indexed(items), sidecars.placement("a", app=8080))
    check(view)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (Cluster, {"connect_timeout": "1.25s", "per_connection_buffer_limit_bytes": 32768}),
        (Cluster, {"connect_timeout": None, "load_assignment": {"cluster_name": "a"}}),
        (Cluster, {"metadata": {"filter_metadata": {"a": {"b": [1, True, None, "c"]}}}}),
        (DataSource, {"inline_bytes": "bWVzaA=="}),
        (Listener, {"name": "", "address": {"socket_address": {"port_value": 80}}}),
        (Listener, {"address": {"pipe": {"path": "/run/a", "mode": 384}}}),
    ],
)
def test_values_are_those_of_proto3_json(kind: type[Message], content: dict[str, Any]) -> None:
    assert parsed(kind, content) == ParseDict(content, kind())


@pytest.mark.parametrize(
    "content",
    [
        {"nam": "a misspelt field"},
        {"name": 5},
        {"name": ["a"]},
        {"lb_policy": "NO_SUCH"},
        {"connect_timeout": "5"},
        {"connect_timeout": 5},
        {"per_connection_buffer_limit_bytes": "many"},
        {"per_connection_buffer_limit_bytes": -1},
        {"load_assignment": "a"},
        {"load_assignment": [{"cluster_name": "a"}]},
        {"load_assignment": {"cluster": "a"}},
        {"load_assignment": {"endpoints": {"locality": {}}}},
        {"health_checks": {"timeout": "1s"}},
        {"health_checks": [None]},
        {"alt_stat_name": "a", "eds_cluster_config": {"service_name": ["a"]}},
        {"type": "EDS", "cluster_type": {"name": "a"}},
        {"upstream_bind_config": {"source_address": {"protocol": "TCP", "port": 1}}},
        {"typed_extension_protocol_options": [1]},
        {"transport_socket": {"typed_config": {"name": "no type"}}},
        {"transport_socket": {"typed_config": {"@type": TYPE + "NoSuch"}}},
        {
            "transport_socket": {
                "typed_config": {
                    "@type": TYPE + "transport_sockets.tls.v3.UpstreamTlsContext",
                    "snni": "a misspelt field",
                }
            }
        },
        {"filters": [{"name": 7}]},
        {"lb_subset_config": {"subset_selectors": [{"keys": "text, no list"}]}},
    ],
)
def test_a_mistake_is_refused_as_protobuf_refuses_it(content: dict[str, Any]) -> None:
    with pytest.raises((ParseError, TypeError)):
        ParseDict(content, Cluster())
    with pytest.raises(ValueError, match=r".+"):
        parsed(Cluster, content)


def test_the_bytes_of_what_holds_a_map_do_not_depend_on_its_order() -> None:
    policies = {
        f"p{number}": {"permissions": [{"any": True}], "principals": [{"any": True}]}
        for number in range(20)
    }
    rbac = {"@type": TYPE + "filters.http.rbac.v3.RBAC"}

    def body(names: list[str]) -> bytes:
        rules = {"policies": {each: policies[each] for each in names}}
        content = {"typed_extension_protocol_options": {"a": rbac | {"rules": rules}}}
        return parsed(Cluster, content).SerializeToString(deterministic=True)

    assert body(sorted(policies)) == body(sorted(policies, reverse=True))


def test_what_is_shared_is_copied() -> None:
    first = parsed(Cluster, {"connect_timeout": "5s"})
    first.connect_timeout.seconds = 9
    assert parsed(Cluster, {"connect_timeout": "5s"}).connect_timeout.seconds == 5
