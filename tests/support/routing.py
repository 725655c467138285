"""Documents behind one real Envoy, without its agent: what compiled routes and clusters do.

Every scenario is compiled as the caller's sidecar would and gets an outbound listener of its own.
Behind it every instance has an inbound listener, with mutual TLS and a socket in a folder for its
address, and behind that an application of `tests.support.echo`: the two hops of the mesh.
"""

import http.client
import json
import socket
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mesh.compiler.bootstrap import bootstrap
from mesh.compiler.scope import build_view
from mesh.compiler.view import View
from mesh.documents.front_end import front_end
from mesh.documents.parser import SourceText
from mesh.model.catalog import Catalog, Endpoint, Health
from mesh.model.identity import SVID, ServiceName
from mesh.model.placement import Placement
from mesh.model.policy import Address, PolicyKey
from mesh.model.revision import Applied, ManifestEntry, Policies
from tests.support import compiled, echo, envoy, sidecars

INSTANCES = {
    "v1": (ServiceName("default", "api"), {"version": "v1"}),
    "v2": (ServiceName("default", "api"), {"version": "v2"}),
    "stock": (ServiceName("default", "stock"), {}),
    "cart": (ServiceName("shop", "cart"), {}),
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
_FREE = Address("127.0.0.1", 0)


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


class _Compiler:
    """Parts of one bootstrap: the callers' sidecars and the instances'."""

    def __init__(self, ports: Mapping[str, int], folder: Path) -> None:
        self._ports = ports
        self._folder = folder
        self._authority = sidecars.Authority()
        self._leaves: dict[ServiceName, SVID] = {}

    def caller(self, name: str, scenario: Scenario) -> dict[str, Any]:
        """An outbound listener of the scenario's name, and what it leads to."""
        text = f"{PRELUDE}\n---\n{scenario.documents}" if scenario.documents else PRELUDE
        known = policies(
            text.replace("OUTSIDE", str(self._ports["outside"])),
            gone=scenario.gone,
            same_age=scenario.same_age,
        )
        here = Placement(id="test", service=scenario.caller, outbound=_FREE)
        return self._part(name, self._view(known, here, self._catalog(scenario)), "outbound")

    def instance(self, id: str) -> dict[str, Any]:
        """An inbound listener on the instance's socket, and the application behind it."""
        known = policies(PRELUDE.replace("OUTSIDE", "1"))
        app = Address("127.0.0.1", self._ports[id])
        service = INSTANCES[id][0]
        here = Placement(id=id, service=service, outbound=_FREE, inbound=_FREE, app=app)
        part = self._part(id, self._view(known, here, Catalog()), "inbound")
        part["listeners"][0]["address"] = self._pipe(id)
        part["clusters"] = [each for each in part["clusters"] if each["name"] == f"{id}/app"]
        return part

    def _view(self, known: Policies, here: Placement, instances: Catalog) -> View:
        if here.service not in self._leaves:
            self._leaves[here.service] = self._authority.svid(here.service)
        return build_view(
            revision=1,
            policies=known,
            catalog=instances,
            placement=here,
            svid=self._leaves[here.service],
            bundle=self._authority.bundle,
        )

    def _catalog(self, scenario: Scenario) -> Catalog:
        endpoints: dict[ServiceName, tuple[Endpoint, ...]] = {}
        for id, (service, meta) in INSTANCES.items():
            here = Endpoint(
                id=id,
                service=service,
                address="127.0.0.1",
                port=self._ports[id],
                meta=meta,
                health=scenario.health.get(id, Health.HEALTHY),
            )
            endpoints[service] = (*endpoints.get(service, ()), here)
        return Catalog(endpoints)

    def _part(self, name: str, view: View, listener: str) -> dict[str, Any]:
        """The view's static resources, with names of their own in a shared Envoy."""
        text = json.dumps(compiled.static(view)["static_resources"])
        for each in ("svid", "peers", "app"):
            text = text.replace(f'"{each}"', f'"{name}/{each}"')
        for each in ("service/", "external/"):
            text = text.replace(f'"{each}', f'"{name}/{each}')
        part: dict[str, Any] = json.loads(text)
        part["listeners"] = [each for each in part["listeners"] if each["name"] == listener]
        part["listeners"][0]["name"] = name
        for cluster in part["clusters"]:
            if "transport_socket" in cluster:
                self._to_sockets(cluster["load_assignment"])
        return part

    def _to_sockets(self, assignment: dict[str, Any]) -> None:
        """Instead of its port, each instance's socket."""
        ids = {port: id for id, port in self._ports.items()}
        for locality in assignment.get("endpoints", ()):
            for each in locality["lb_endpoints"]:
                port = each["endpoint"]["address"]["socket_address"]["port_value"]
                each["endpoint"]["address"] = self._pipe(ids[port])

    def _pipe(self, id: str) -> dict[str, Any]:
        return {"pipe": {"path": str(self._folder / f"{id}.sock")}}


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
        served = [id for id in (*INSTANCES, "outside") if id not in (DESERTED, UNPLUGGED)]
        ports = stack.enter_context(echo.running(served))
        ports |= {id: stack.enter_context(_closed_port()) for id in (DESERTED, UNPLUGGED)}
        compiler = _Compiler(ports, folder)
        parts = [compiler.instance(id) for id in INSTANCES if id != UNPLUGGED]
        parts += [compiler.caller(name, each) for name, each in scenarios.items()]
        own = bootstrap(node_id="x", cluster="x", ads_socket="x", admin_socket="x")
        whole = {
            "layered_runtime": own["layered_runtime"],
            "static_resources": {
                kind: [each for part in parts for each in part[kind]]
                for kind in ("listeners", "clusters", "secrets")
            },
        }
        yield Mesh(stack.enter_context(envoy.running(whole)), ports)
