"""Documents behind one real Envoy, without its agent: what compiled routes and clusters do.

Every scenario is compiled as the caller's sidecar would and gets an outbound listener of its own.
Behind it every instance has an inbound listener, and behind that an application of
`tests.support.echo`: the two hops of the mesh, but for mutual TLS, with sockets in a folder for
the addresses of instances.
"""

import http.client
import json
import socket
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mesh.compiler import authorization, clusters, listeners, routes
from mesh.compiler import bootstrap as compiled
from mesh.compiler.scope import build_view
from mesh.compiler.view import Inbound, View
from mesh.documents import SourceText, front_end
from mesh.model.catalog import Catalog, Endpoint, Health
from mesh.model.identity import SVID, Identity, ServiceName, TrustBundle
from mesh.model.placement import Placement
from mesh.model.policy import Address, Default, PolicyKey, Protocol
from mesh.model.revision import Applied, ManifestEntry, Policies
from tests.support import echo, envoy

INSTANCES = {
    "v1": (ServiceName("default", "api"), {"version": "v1"}),
    "v2": (ServiceName("default", "api"), {"version": "v2"}),
    "stock": (ServiceName("default", "stock"), {}),
    "cart": (ServiceName("shop", "cart"), {}),
    "outside": (ServiceName("nowhere", "outside"), {}),
    "steady": (ServiceName("default", "fragile"), {}),
    "deserted": (ServiceName("default", "fragile"), {"app": "down"}),
    "unplugged": (ServiceName("default", "fragile"), {"sidecar": "down"}),
}
DESERTED = "deserted"
"""Its sidecar serves, its application does not."""
UNPLUGGED = "unplugged"
"""Not even its sidecar serves."""

PRELUDE = """
{apiVersion: mesh/v1, kind: Mesh, metadata: {name: mesh}, spec: {access: {default: allow}}}
---
{apiVersion: mesh/v1, kind: Service, metadata: {name: api}, spec: {protocol: http, port: 80}}
---
apiVersion: mesh/v1
kind: Service
metadata: {name: api-v1}
spec: {protocol: http, port: 80, instances: {service: api, meta: {version: v1}}}
---
apiVersion: mesh/v1
kind: Service
metadata: {name: api-v2}
spec: {protocol: http, port: 80, instances: {service: api, meta: {version: v2}}}
---
{apiVersion: mesh/v1, kind: Service, metadata: {name: stock}, spec: {protocol: http, port: 8080}}
---
{apiVersion: mesh/v1, kind: Service, metadata: {name: empty}, spec: {protocol: http, port: 80}}
---
apiVersion: mesh/v1
kind: Service
metadata: {name: deserted}
spec: {protocol: http, port: 80, instances: {service: fragile, meta: {app: down}}}
---
apiVersion: mesh/v1
kind: Service
metadata: {name: unplugged}
spec: {protocol: http, port: 80, instances: {service: fragile, meta: {sidecar: down}}}
---
{apiVersion: mesh/v1, kind: Service, metadata: {name: fragile}, spec: {protocol: http, port: 80}}
---
apiVersion: mesh/v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {protocol: http, port: 80}
---
apiVersion: mesh/v1
kind: ExternalService
metadata: {name: outside}
spec: {protocol: http, port: 80, endpoints: [{address: 127.0.0.1, port: OUTSIDE}]}
"""

WEB = ServiceName("default", "web")
_NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Answer:
    """What came back; `asked` is the application's account of the request, if it was reached."""

    status: int
    headers: Mapping[str, str]
    body: str

    @property
    def asked(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self.body))
        except ValueError:
            return {}

    @property
    def backend(self) -> str | None:
        return self.asked.get("backend")

    def seen(self, name: str) -> str | None:
        """A request header as the application saw it; several lines joined by a comma."""
        values = [value for each, value in self.asked.get("headers", ()) if each == name]
        return ",".join(values) if values else None


@dataclass(frozen=True)
class Scenario:
    """Documents (beside the prelude, youngest last), who calls, and how the instances are."""

    documents: str
    caller: ServiceName = WEB
    gone: frozenset[str] = field(default_factory=frozenset)
    same_age: bool = False
    health: Mapping[str, Health] = field(default_factory=dict)


def as_yaml(document: Mapping[str, Any]) -> str:
    """A document as text."""
    return json.dumps(document)


def policies(text: str, *, gone: Iterable[str] = (), same_age: bool = False) -> Policies:
    """The documents of a text that has no mistakes, each one younger than those before it unless
    they are to be of the `same_age`.

    `gone` are `Kind name`s that are dropped, as if another source had withdrawn them.
    """
    result = front_end([SourceText("case.yaml", text.encode())])
    assert not result.errors, "\n".join(map(str, result.errors))
    found: dict[PolicyKey, Applied] = {}
    for age, each in enumerate(sorted(result.policies, key=lambda item: item.position), 1):
        entry = ManifestEntry(
            key=each.key,
            digest=each.digest,
            source="main",
            file=each.position.file,
            line=each.position.line,
            introduced=1 if same_age else age,
        )
        found[each.key] = Applied(policy=each.policy, entry=entry)
    dropped = set(gone)
    return {key: each for key, each in found.items() if f"{key.kind} {key.name}" not in dropped}


def view(scenario: Scenario, ports: Mapping[str, int]) -> View:
    """What the caller's sidecar compiles from."""
    text = f"{PRELUDE}\n---\n{scenario.documents}" if scenario.documents else PRELUDE
    endpoints: dict[ServiceName, tuple[Endpoint, ...]] = {}
    for id, (service, meta) in INSTANCES.items():
        health = scenario.health.get(id, Health.HEALTHY)
        here = Endpoint(
            id=id,
            service=service,
            address="127.0.0.1",
            port=ports[id],
            meta=meta,
            health=health,
        )
        endpoints[service] = (*endpoints.get(service, ()), here)
    return build_view(
        revision=1,
        policies=policies(
            text.replace("OUTSIDE", str(ports["outside"])),
            gone=scenario.gone,
            same_age=scenario.same_age,
        ),
        catalog=Catalog(endpoints),
        placement=Placement(id="test", service=scenario.caller, outbound=Address("127.0.0.1", 0)),
        svid=None,
        bundle=None,
    )


def _outbound(name: str, view: View, sockets: Mapping[int, str]) -> dict[str, Any]:
    """The caller's part of a bootstrap; its clusters are named after the scenario."""
    assignments = {each.name: each.json for each in clusters.endpoints(view)}
    found = []
    for each in clusters.clusters(view):
        if each.name in assignments:
            found.append(_static(dict(each.json), _in_folder(assignments[each.name], sockets)))
        else:
            found.append(each.json)
    listener = _inline(_named(view, "outbound"), routes.outbound(view).json, {})
    listener["name"] = name
    text = json.dumps({"listeners": [listener], "clusters": found})
    for kind in ("service", "external"):
        text = text.replace(f'"{kind}/', f'"{name}/{kind}/')
    return dict(json.loads(text))


def _static(cluster: dict[str, Any], assignment: Mapping[str, Any]) -> dict[str, Any]:
    del cluster["transport_socket"], cluster["eds_cluster_config"]
    return cluster | {"type": "STATIC", "load_assignment": assignment}


def _in_folder(assignment: Mapping[str, Any], sockets: Mapping[int, str]) -> dict[str, Any]:
    """Instead of its port, each instance's socket."""
    text = json.dumps(assignment)
    for port, path in sockets.items():
        address = json.dumps({"socket_address": {"address": "127.0.0.1", "port_value": port}})
        text = text.replace(address, json.dumps({"pipe": {"path": path}}))
    return dict(json.loads(text))


def _inbound(id: str, port: int, path: str) -> dict[str, Any]:
    """The callee's part of a bootstrap, for an instance whose application is on `port`."""
    service = INSTANCES[id][0]
    here = Address("127.0.0.1", 0)
    made = View(
        revision=1,
        trust_domain="mesh.local",
        placement=Placement(id=id, service=service, outbound=here, inbound=here, app=here),
        max_connection_duration=timedelta(hours=1),
        inbound=Inbound(
            protocol=Protocol.HTTP,
            listen=here,
            app=Address("127.0.0.1", port),
            access_default=Default.ALLOW,
        ),
        svid=SVID(
            identity=Identity("mesh.local", service),
            chain_pem=b"",
            private_key_pem=b"",
            not_before=_NOW,
            not_after=_NOW,
        ),
        bundle=TrustBundle("mesh.local", b""),
    )
    rules = {each.name: each.json["typed_config"] for each in authorization.inbound(made)}
    listener = _inline(_named(made, "inbound"), routes.inbound(made).json, rules)
    del listener["filter_chains"][0]["transport_socket"]
    listener |= {"name": f"inbound/{id}", "address": {"pipe": {"path": path}}}
    text = json.dumps({"listeners": [listener], "clusters": [clusters.clusters(made)[0].json]})
    return dict(json.loads(text.replace('"app"', f'"app/{id}"')))


def _named(view: View, name: str) -> dict[str, Any]:
    [found] = [each for each in listeners.listeners(view) if each.name == name]
    return dict(json.loads(json.dumps(found.json)))


def _inline(
    listener: dict[str, Any], route_configuration: Mapping[str, Any], rules: Mapping[str, Any]
) -> dict[str, Any]:
    """What would come by RDS and ECDS, inside the listener."""
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    del manager["rds"]
    manager["route_config"] = {**route_configuration, "validate_clusters": False}
    for each in manager["http_filters"]:
        if each.pop("config_discovery", None):
            each["typed_config"] = rules[each["name"]]
    return listener


class Mesh:
    """A running Envoy and the applications behind it, asked as a scenario's caller."""

    def __init__(self, running: envoy.RunningEnvoy, ports: Mapping[str, int]) -> None:
        self.envoy = running
        self.applications = ports

    def ask(
        self,
        scenario: str,
        path: str = "/",
        *,
        host: str = "api",
        method: str = "GET",
        headers: Iterable[tuple[str, str]] = (),
        body: bytes | None = None,
    ) -> Answer:
        """One request on a connection of its own, byte for byte as given."""
        connection = http.client.HTTPConnection("127.0.0.1", self.envoy.ports[scenario], timeout=10)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", host)
            for name, value in headers:
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            named = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, named, response.read().decode())
        finally:
            connection.close()


@contextmanager
def _closed_port() -> Iterator[int]:
    """A port that is taken and refuses connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@contextmanager
def running(scenarios: Mapping[str, Scenario]) -> Iterator[Mesh]:
    """One Envoy for all scenarios, each a listener of its own, until the block ends."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mesh-")))
        served = [id for id in INSTANCES if id not in (DESERTED, UNPLUGGED)]
        ports = stack.enter_context(echo.running(served))
        ports |= {id: stack.enter_context(_closed_port()) for id in (DESERTED, UNPLUGGED)}
        sockets = {port: str(folder / f"{id}.sock") for id, port in ports.items()}
        parts = [_inbound(id, port, sockets[port]) for id, port in ports.items() if id != UNPLUGGED]
        parts += [_outbound(name, view(each, ports), sockets) for name, each in scenarios.items()]
        own = compiled.bootstrap(node_id="x", cluster="x", ads_socket="x", admin_socket="x")
        bootstrap = {
            "layered_runtime": own["layered_runtime"],
            "static_resources": {
                kind: [each for part in parts for each in part[kind]]
                for kind in ("listeners", "clusters")
            },
        }
        yield Mesh(stack.enter_context(envoy.running(bootstrap)), ports)
