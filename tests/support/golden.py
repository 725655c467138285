"""Golden cases: a folder with what goes into the compiler and what comes out of it.

policies.yaml    the documents; or `policies` in sidecar.json names folders of the project
sidecar.json     whose sidecar it is: `service`, `namespace`, whether it has an `app`, `upstreams`
                 (name to port), `ages` ("HTTPRoute default/api" to revision; 1 if not said),
                 `identity` (false: no certificate yet), `metrics` (true: somebody scrapes)
catalog.json     instances by service ("default/api"), and all registered `names`; may be absent
clusters.json, endpoints.json, extensions.json, listeners.json, routes.json, secrets.json
                 what is expected, by name; an absent file expects none
"""

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from mesh.compiler.assemble import compile_view
from mesh.compiler.scope import build_view
from mesh.compiler.view import View
from mesh.documents.front_end import front_end
from mesh.documents.parser import SourceText
from mesh.model.catalog import Catalog, Endpoint, Health
from mesh.model.identity import SVID, Identity, ServiceName, TrustBundle
from mesh.model.placement import Placement
from mesh.model.policy import Address
from mesh.model.revision import Applied, ManifestEntry, Policies
from mesh.model.snapshot import ResourceType
from tests.support import compiled
from tests.support.policies import name
from tests.support.sidecars import Authority

PROJECT = Path(__file__).parents[2]
CASES = sorted(file.parent for file in PROJECT.glob("tests/golden/*/sidecar.json"))
HOST = "127.0.0.1"
FILES = {
    ResourceType.CLUSTER: "clusters.json",
    ResourceType.ENDPOINTS: "endpoints.json",
    ResourceType.EXTENSION: "extensions.json",
    ResourceType.LISTENER: "listeners.json",
    ResourceType.ROUTE: "routes.json",
    ResourceType.SECRET: "secrets.json",
}
_START = datetime(2026, 3, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Case:
    folder: Path

    @cached_property
    def sidecar(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "sidecar.json").read_text())
        return found

    @property
    def service(self) -> ServiceName:
        return ServiceName(self.sidecar.get("namespace", "default"), self.sidecar["service"])

    @cached_property
    def policies(self) -> Policies:
        """The case's policies.

        Raises:
            AssertionError: they have mistakes.
        """
        result = front_end(list(self._sources()))
        assert not result.errors, "\n".join(map(str, result.errors))
        ages = self.sidecar.get("ages", {})
        return {
            parsed.key: Applied(
                policy=parsed.policy,
                entry=ManifestEntry(
                    key=parsed.key,
                    digest=parsed.digest,
                    source="main",
                    file=parsed.position.file,
                    line=parsed.position.line,
                    introduced=ages.get(str(parsed.key), 1),
                ),
            )
            for parsed in result.policies
        }

    def _sources(self) -> list[SourceText]:
        folders = self.sidecar.get("policies")
        files = [self.folder / "policies.yaml"]
        if folders is not None:
            files = [file for each in folders for file in sorted((PROJECT / each).glob("*.yaml"))]
        return [SourceText(str(each.relative_to(PROJECT)), each.read_bytes()) for each in files]

    @cached_property
    def catalog(self) -> Catalog:
        file = self.folder / "catalog.json"
        content = json.loads(file.read_text()) if file.exists() else {}
        names = frozenset(map(name, content.pop("names", ())))
        return Catalog({name(each): _endpoints(each, content[each]) for each in content}, names)

    @property
    def placement(self) -> Placement:
        app = self.sidecar.get("app", False)
        ports: dict[str, int] = self.sidecar.get("upstreams", {})
        return Placement(
            id=f"h1-{self.service.namespace}-{self.service.name}-1",
            service=self.service,
            outbound=Address(HOST, 15001),
            inbound=Address("0.0.0.0", 15006) if app else None,
            app=Address(HOST, 8080) if app else None,
            upstreams={name(each): Address(HOST, port) for each, port in ports.items()},
            metrics=self.sidecar.get("metrics", False),
        )

    def view(self, authority: Authority | None = None) -> View:
        """The case's view; certificates only say what they are, unless there is an authority."""
        made = build_view(
            revision=1,
            policies=self.policies,
            catalog=self.catalog,
            placement=self.placement,
            svid=None,
            bundle=None,
        )
        if not self.sidecar.get("identity", True):
            return made
        if authority is not None:
            return replace(made, svid=authority.svid(self.service), bundle=authority.bundle)
        identity = Identity(made.trust_domain, self.service)
        svid = SVID(identity, b"the chain", b"the key", _START, _START + timedelta(hours=24))
        return replace(made, svid=svid, bundle=TrustBundle(made.trust_domain, b"the roots"))

    def compiled(self) -> dict[str, str]:
        """The content of each file that is not empty."""
        snapshot = compile_view(self.view())
        found = {file: compiled.as_json(snapshot, kind) for kind, file in FILES.items()}
        return {
            file: json.dumps(content, indent=2, sort_keys=True) + "\n"
            for file, content in found.items()
            if content
        }

    def expected(self) -> dict[str, str]:
        files = [self.folder / each for each in FILES.values()]
        return {each.name: each.read_text() for each in files if each.exists()}

    def update(self) -> None:
        """Make what is compiled what is expected."""
        content = self.compiled()
        for file in FILES.values():
            if file in content:
                (self.folder / file).write_text(content[file])
            else:
                (self.folder / file).unlink(missing_ok=True)


def _endpoints(service: str, instances: list[dict[str, Any]]) -> tuple[Endpoint, ...]:
    return tuple(
        Endpoint(
            id=each["id"],
            service=name(service),
            address=each["address"],
            port=each.get("port", 15006),
            meta=each.get("meta", {}),
            tags=frozenset(each.get("tags", ())),
            datacenter=each.get("datacenter"),
            health=Health(each.get("health", "healthy")),
        )
        for each in instances
    )
