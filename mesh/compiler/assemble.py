"""The one door to protobuf: generated JSON becomes resources, each with its version.

`ParseDict` refuses a misspelt field. Envoy accepts a route to a cluster that does not exist, and
ignores the configuration of a filter that a listener lacks; `references` refuses both before it
comes to that. What is refused here is a mistake of this package, never of a user.
"""

import hashlib
import importlib
import json
from collections.abc import Iterable
from types import MappingProxyType
from typing import Final

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_components_pb2 import VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message

from mesh.compiler import authorization, clusters, listeners, references, routes, secrets
from mesh.compiler.generated import JSON, PEERS_SECRET, SVID_SECRET, Generated
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

# ParseDict finds the message of an `@type` among those that are imported; each costs memory.
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
        self._parts: dict[tuple[str, ...], tuple[bytes, Message]] = {}
        self._used: dict[tuple[str, ...], tuple[bytes, Message]] = {}

    def compile(self, view: View) -> Snapshot:
        """The whole configuration of the view's Envoy.

        Raises:
            MeshError: the generators disagree with Envoy's API or with one another.
        """
        generated = generate(view)
        references.check(generated, awaited=_awaited(view))
        return self.assembled(generated, view.revision)

    def assembled(self, generated: Iterable[Generated], revision: int) -> Snapshot:
        """The snapshot of what is generated.

        Raises:
            MeshError: the JSON is not what Envoy's API says.
        """
        self._used = {}
        resources: dict[ResourceType, dict[str, Resource]] = {kind: {} for kind in ResourceType}
        for each in generated:
            resources[each.type][each.name] = self._resource(each)
        self._parts = self._used
        frozen = {kind: MappingProxyType(named) for kind, named in resources.items()}
        return Snapshot(revision, MappingProxyType(frozen))

    def _resource(self, generated: Generated) -> Resource:
        body = self._message(generated).SerializeToString(deterministic=True)
        return Resource(
            type=generated.type,
            name=generated.name,
            version=hashlib.sha256(body).hexdigest(),
            body=body,
            names=tuple(sorted(set(generated.names))),
            sources=tuple(sorted(set(generated.sources))),
        )

    def _message(self, generated: Generated) -> Message:
        try:
            if generated.type is ResourceType.ROUTE:
                return self._routes(generated)
            key = (generated.type, generated.name)
            return self._parsed(key, generated.json, MESSAGES[generated.type])
        except ParseError as error:
            kind = generated.type.name.lower()
            raise MeshError(f'generated {kind} "{generated.name}" is malformed: {error}') from error

    def _routes(self, generated: Generated) -> Message:
        """A route configuration, host by host: it is the one resource that grows with the scope."""
        fields = dict(generated.json)
        hosts = fields.pop("virtual_hosts", ())
        configuration = RouteConfiguration()
        ParseDict(fields, configuration)
        for host in hosts:
            key = (generated.type, generated.name, host["name"])
            configuration.virtual_hosts.append(self._parsed(key, host, VirtualHost))
        message: Message = configuration
        return message

    def _parsed(self, key: tuple[str, ...], content: JSON, kind: type[Message]) -> Message:
        """The message, from memory where the same content had the same key last time."""
        digest = hashlib.sha256(_text(content)).digest()
        known = self._parts.get(key)
        if known is None or known[0] != digest:
            message = kind()
            ParseDict(content, message)
            known = (digest, message)
        self._used[key] = known
        return known[1]


def compile_view(view: View) -> Snapshot:
    """The whole configuration of the view's Envoy; pure, and equal views give equal bytes.

    Raises:
        MeshError: the generators disagree with Envoy's API or with one another.
    """
    return Assembler().compile(view)


def generate(view: View) -> list[Generated]:
    """Every resource of the view, as JSON, in a fixed order."""
    found = [*secrets.secrets(view), *clusters.clusters(view), *clusters.endpoints(view)]
    found += [*listeners.listeners(view), routes.outbound(view)]
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


def _text(content: JSON) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()
