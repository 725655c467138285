"""The policies of a revision, found by what they are about.

One index for the whole compilation: every look-up that `scope`, `routing` and `destinations` need,
in an order that does not depend on how the policies were handed over.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from mesh.model.identity import ServiceName
from mesh.model.policy import (
    AccessPolicy,
    ExternalService,
    HTTPRoute,
    Kind,
    Mesh,
    PolicyKey,
    Protocol,
    Service,
    Target,
    TrafficPolicy,
)
from mesh.model.revision import ManifestEntry, Policies

_NO_MESH = Mesh(key=PolicyKey("Mesh", "default", "default"))
_IMPLICIT_PORT = 80
_WHOLE_MESH = Target(Kind.MESH, "", "")


@dataclass(frozen=True, slots=True)
class Known:
    """A Service or ExternalService, and how references name it, with its document's entry; None
    is a registered name only.
    """

    target: Target
    service: Service | ExternalService
    entry: ManifestEntry | None = None


@dataclass(frozen=True, slots=True)
class Directory:
    """Look-ups by target; the tuples are in order of age, then namespace and name."""

    mesh: Mesh = _NO_MESH
    known: Mapping[Target, Known] = field(default_factory=dict)
    routes: Mapping[Target, tuple[tuple[HTTPRoute, ManifestEntry], ...]] = field(
        default_factory=dict
    )
    traffic: Mapping[Target, tuple[tuple[TrafficPolicy, ManifestEntry], ...]] = field(
        default_factory=dict
    )
    access: Mapping[Target, tuple[tuple[AccessPolicy, ManifestEntry], ...]] = field(
        default_factory=dict
    )

    def protecting(self, service: ServiceName) -> Iterator[tuple[AccessPolicy, ManifestEntry]]:
        """The access policies of a service's identity: on itself, its namespace or the mesh.

        Each once, by namespace and name.
        """
        namespace = service.namespace
        groups = (Target(Kind.NAMESPACE, namespace, namespace), _WHOLE_MESH)
        found = {
            policy.key: (policy, entry)
            for target in (service_target(service), *groups)
            for policy, entry in self.access.get(target, ())
        }
        for key in sorted(found):
            yield found[key]


def directory(policies: Policies) -> Directory:
    """Index the policies."""
    mesh = _NO_MESH
    known: dict[Target, Known] = {}
    routes: dict[Target, list[tuple[HTTPRoute, ManifestEntry]]] = {}
    traffic: dict[Target, list[tuple[TrafficPolicy, ManifestEntry]]] = {}
    access: dict[Target, list[tuple[AccessPolicy, ManifestEntry]]] = {}
    for applied in sorted(policies.values(), key=lambda a: (a.entry.introduced, a.policy.key)):
        policy, entry = applied.policy, applied.entry
        match policy:
            case Mesh():
                mesh = policy
            case Service() | ExternalService():
                target = Target(Kind(policy.key.kind), policy.key.namespace, policy.key.name)
                known[target] = Known(target, policy, entry)
            case HTTPRoute():
                _file(routes, (policy, entry), {parent.target for parent in policy.parents})
            case TrafficPolicy():
                _file(traffic, (policy, entry), set(policy.targets))
            case AccessPolicy():
                _file(access, (policy, entry), {_plain(target) for target in policy.targets})
    return Directory(mesh, known, _frozen(routes), _frozen(traffic), _frozen(access))


def service_target(name: ServiceName) -> Target:
    """The reference to a Service."""
    return Target(Kind.SERVICE, name.namespace, name.name)


def implicit(name: ServiceName) -> Known:
    """A registered service without a document: `http` on port 80."""
    key = PolicyKey(Kind.SERVICE, name.namespace, name.name)
    service = Service(key=key, protocol=Protocol.HTTP, port=_IMPLICIT_PORT)
    return Known(service_target(name), service)


def _plain(target: Target) -> Target:
    """A target that compares by what it means: there is one mesh, and a namespace has one name."""
    match target.kind:
        case Kind.MESH:
            return _WHOLE_MESH
        case Kind.NAMESPACE:
            return Target(Kind.NAMESPACE, target.name, target.name)
        case Kind.SERVICE | Kind.EXTERNAL_SERVICE:
            return target


_P = TypeVar("_P", HTTPRoute, TrafficPolicy, AccessPolicy)


def _file(
    drawer: dict[Target, list[tuple[_P, ManifestEntry]]],
    item: tuple[_P, ManifestEntry],
    targets: set[Target],
) -> None:
    for target in targets:
        drawer.setdefault(target, []).append(item)


def _frozen(
    drawer: dict[Target, list[tuple[_P, ManifestEntry]]],
) -> dict[Target, tuple[tuple[_P, ManifestEntry], ...]]:
    return {target: tuple(items) for target, items in drawer.items()}
