"""The one door to protobuf: generated JSON becomes resources, each with its version.

`messages` refuses a misspelt field. Envoy accepts a route to a cluster that does not exist, and
ignores the configuration of a filter that a listener lacks; `references` refuses both before it
comes to that. What is refused here is a mistake of this package, never of a user.
"""

import hashlib
import importlib
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Final

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_components_pb2 import Route, VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from google.protobuf.message import Message

from mesh.compiler import authorization, clusters, listeners, references, routes, secrets
from mesh.compiler.generated import JSON, PEERS_SECRET, SVID_SECRET, Generated
from mesh.compiler.memory import Memory
from mesh.compiler.messages import parsed
from mesh.compiler.view import View
from mesh.errors import MeshError
from mesh.model.snapshot import Resource, ResourceType, Snapshot

MESSAGES: Final[dict[ResourceType, type[Message]]] = {
    ResourceType.SECRET: Secret,
    ResourceType.CLUSTER: Cluster,
    ResourceType.ENDPOINTS: ClusterLoadAssignment,
    ResourceType.EXTENSION: TypedExtensionConfig,
    ResourceType.LISTENER: Listener,
    ResourceType.ROUTE: RouteConfiguration,
}

# The lists that grow with the scope: their field, and the message of one of them.
_APART: Final[dict[type[Message], tuple[str, type[Message]]]] = {
    RouteConfiguration: ("virtual_hosts", VirtualHost),
    VirtualHost: ("routes", Route),
}

# The message of an `@type` is found among those that are imported; each costs memory.
for _module in (
    "filters.http.header_mutation.v3.header_mutation_pb2",
    "filters.http.rbac.v3.rbac_pb2",
    "filters.http.router.v3.router_pb2",
    "filters.http.upstream_codec.v3.upstream_codec_pb2",
    "filters.network.http_connection_manager.v3.http_connection_manager_pb2",
    "filters.network.rbac.v3.rbac_pb2",
    "filters.network.tcp_proxy.v3.tcp_proxy_pb2",
    "http.early_header_mutation.header_mutation.v3.header_mutation_pb2",
    "load_balancing_policies.client_side_weighted_round_robin.v3"
    ".client_side_weighted_round_robin_pb2",
    "matching.common_inputs.ssl.v3.ssl_inputs_pb2",
    "retry.host.previous_hosts.v3.previous_hosts_pb2",
    "retry.priority.previous_priorities.v3.previous_priorities_config_pb2",
    "transport_sockets.tls.v3.tls_pb2",
    "transport_sockets.tls.v3.tls_spiffe_validator_config_pb2",
    "upstreams.http.v3.http_protocol_options_pb2",
):
    importlib.import_module("envoy.extensions." + _module)


class Assembler:
    """Makes snapshots one after another and remembers the last one's parts, so that a change
    costs what it changes. Holds no more than one snapshot; its answers do not depend on it.
    """

    def __init__(self) -> None:
        self._memory = Memory()
        self._view: View | None = None
        self._made = Snapshot()

    def compile(self, view: View) -> Snapshot:
        """The whole configuration of the view's Envoy.

        Raises:
            MeshError: the generators disagree with Envoy's API or with one another.
        """
        if self._view is None or view != replace(self._view, revision=view.revision):
            self._memory.turn()
            generated = generate(view, self._memory)
            references.check(generated, awaited=_awaited(view), memory=self._memory)
            self._made = self.assembled(generated, view.revision)
            self._view = view
        return Snapshot(view.revision, self._made.resources)

    def assembled(self, generated: Iterable[Generated], revision: int) -> Snapshot:
        """The snapshot of what is generated.

        Raises:
            MeshError: the JSON is not what Envoy's API says.
        """
        resources: dict[ResourceType, dict[str, Resource]] = {kind: {} for kind in ResourceType}
        for each in generated:
            key = (each.type, each.name)
            made = self._memory.of_parts(key, each, partial(_resource, each))
            resources[each.type][each.name] = made
        frozen = {kind: MappingProxyType(named) for kind, named in resources.items()}
        return Snapshot(revision, MappingProxyType(frozen))


def compile_view(view: View) -> Snapshot:
    """The whole configuration of the view's Envoy; pure, and equal views give equal bytes.

    Raises:
        MeshError: the generators disagree with Envoy's API or with one another.
    """
    return Assembler().compile(view)


def generate(view: View, memory: Memory) -> list[Generated]:
    """Every resource of the view, as JSON, in a fixed order."""
    own = view.part(each.destination for each in view.upstreams)
    return [
        *clusters.clusters(view, memory),
        *clusters.endpoints(view, memory),
        routes.outbound(view, memory),
        *memory.of(generate, own, lambda: _own(own)),
    ]


def _own(view: View) -> list[Generated]:
    """What depends on the sidecar itself and not on what it calls."""
    found = [*secrets.secrets(view), *listeners.listeners(view)]
    if view.has_identity:
        found += authorization.inbound(view)
        if view.inbound is not None and view.inbound.protocol.is_http:
            found.append(routes.inbound(view))
    return found


def _awaited(view: View) -> frozenset[tuple[ResourceType, str]]:
    """What may be missing: calls wait for an identity, as Envoy does for a secret."""
    if view.has_identity:
        return frozenset()
    return frozenset({(ResourceType.SECRET, SVID_SECRET), (ResourceType.SECRET, PEERS_SECRET)})


def _resource(generated: Generated, memory: Memory) -> Resource:
    body, version = memory.of_parts(_bytes, generated.json, partial(_bytes, generated))
    return Resource(
        type=generated.type,
        name=generated.name,
        version=version,
        body=body,
        names=tuple(sorted(set(generated.names))),
        sources=tuple(sorted(set(generated.sources))),
    )


def _bytes(generated: Generated, memory: Memory) -> tuple[bytes, str]:
    """The deterministic serialization, and its digest."""
    try:
        message = _message(MESSAGES[generated.type], generated.json, memory)
    except ValueError as error:
        kind = generated.type.name.lower()
        raise MeshError(f'generated {kind} "{generated.name}" is malformed: {error}') from error
    body: bytes = message.SerializeToString(deterministic=True)
    return body, hashlib.sha256(body).hexdigest()


def _message(kind: type[Message], content: JSON, memory: Memory) -> Message:
    """`content` as a message; where it has a list that grows, each of its items is remembered."""
    field, of = _APART.get(kind, ("", kind))
    if not (parts := content.get(field)):
        return parsed(kind, content)
    rest = {name: value for name, value in content.items() if name != field}
    message = kind()
    message.CopyFrom(memory.of(field, rest, partial(parsed, kind, rest)))
    names = [part.get("name") for part in parts]
    keys = names if len({*names}) == len(names) else range(len(parts))
    getattr(message, field).extend(
        memory.of_parts(key, part, partial(_message, of, part))
        for key, part in zip(keys, parts, strict=True)
    )
    return message
