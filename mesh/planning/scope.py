"""Which documents concern one service's sidecars, from the manifest alone.

A Service's entry has the service that it is a view of in `targets` and its dependencies in
`uses`; a Mesh that allows by default has itself in `targets` and `admits`.

The answer may hold a document too many, never one too few: a sidecar fetches these and no others,
and `plan` tells by them which sidecars a change touches.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from mesh.model.identity import ServiceName
from mesh.model.policy import Kind, PolicyKey, Target
from mesh.model.revision import Manifest, ManifestEntry

_SERVICES = (Kind.SERVICE, Kind.EXTERNAL_SERVICE)


def closure(manifest: Manifest, service: ServiceName) -> frozenset[PolicyKey]:
    """The documents that decide what a sidecar of `service` runs; see `Scopes.closure`."""
    return Scopes(manifest).closure(service)


class Scopes:
    """An index of a manifest that answers for many services."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._targeting: defaultdict[tuple[str, Target], list[ManifestEntry]] = defaultdict(list)
        self._admitting: defaultdict[Target, list[ManifestEntry]] = defaultdict(list)
        self._members: defaultdict[str, set[Target]] = defaultdict(set)
        self._meshes: list[ManifestEntry] = []
        for entry in manifest.values():
            self._add(entry)

    def _add(self, entry: ManifestEntry) -> None:
        kind, namespace = entry.key.kind, entry.key.namespace
        if kind in _SERVICES:
            self._members[namespace].add(Target(Kind(kind), namespace, entry.key.name))
        if kind == Kind.SERVICE:
            # What a view chooses from may have no document, and is protected all the same.
            for base in entry.targets:
                self._members[base.namespace].add(base)
        if kind == Kind.MESH:
            self._meshes.append(entry)
        for target in entry.targets:
            self._targeting[kind, _plain(target)].append(entry)
        for target in entry.admits:
            self._admitting[_plain(target)].append(entry)

    def closure(self, service: ServiceName) -> frozenset[PolicyKey]:
        """The documents that decide what a sidecar of `service` runs.

        The Mesh; the Service itself; access policies on it, its namespace or the mesh; what it
        may call (what it declares, what admits it, everything where the Mesh allows by default),
        views of that, the routes on it for this caller, their backends, and the traffic policies
        and outbound access policies of all these.
        """
        own = Target(Kind.SERVICE, service.namespace, service.name)
        admitting = self._admitting_entries(service)
        named = self._callable(own, admitting)
        routes = {
            route.key: route
            for target in named
            for route in self._targeting.get(("HTTPRoute", target), ())
            if route.key.namespace in (service.namespace, target.namespace)
        }
        destinations = named | {backend for route in routes.values() for backend in route.uses}
        destinations |= self._selected(destinations)
        keys = {entry.key for entry in (*self._meshes, *admitting)} | routes.keys()
        keys |= {_key(target) for target in (*destinations, own)} & self._manifest.keys()
        keys |= self._policies("TrafficPolicy", destinations)
        return frozenset(keys | self._policies("AccessPolicy", _deciding(own, destinations)))

    def callable_by(self, service: ServiceName) -> frozenset[Target]:
        """The services that a sidecar of `service` answers for, views included; some of them may
        have no document.
        """
        own = Target(Kind.SERVICE, service.namespace, service.name)
        return frozenset(self._callable(own, self._admitting_entries(service)))

    def on(self, kind: str, target: Target) -> tuple[ManifestEntry, ...]:
        """The entries of `kind` that name this target, or a group that it belongs to."""
        groups = (target,) if target.kind is Kind.MESH else _groups(target)
        return tuple(
            entry
            for group in dict.fromkeys(_plain(item) for item in groups)
            for entry in self._targeting.get((kind, group), ())
        )

    def _policies(self, kind: str, targets: Iterable[Target]) -> set[PolicyKey]:
        return {
            entry.key for target in targets for entry in self._targeting.get((kind, target), ())
        }

    def _admitting_entries(self, service: ServiceName) -> list[ManifestEntry]:
        """The entries that let this caller see something."""
        own = Target(Kind.SERVICE, service.namespace, service.name)
        return [entry for target in _groups(own) for entry in self._admitting.get(target, ())]

    def _callable(self, own: Target, admitting: Iterable[ManifestEntry]) -> set[Target]:
        """The services that answer to a name here: declared, admitted, and views of those."""
        found: set[Target] = set()
        if _key(own) in self._manifest:
            for declared in self._manifest[_key(own)].uses:
                # The document does not say of which kind its dependency is.
                found |= {replace(declared, kind=kind) for kind in _SERVICES}
        for entry in admitting:
            for target in entry.targets:
                found |= self._standing_for(target)
        views = {
            Target(Kind.SERVICE, entry.key.namespace, entry.key.name)
            for target in found
            for entry in self._targeting.get(("Service", target), ())
        }
        return found | views

    def _standing_for(self, target: Target) -> set[Target]:
        """The services that a target means."""
        match target.kind:
            case Kind.SERVICE | Kind.EXTERNAL_SERVICE:
                return {target}
            case Kind.NAMESPACE:
                return self._members.get(target.namespace, set())
            case Kind.MESH:
                return set().union(*self._members.values())

    def _selected(self, destinations: Iterable[Target]) -> set[Target]:
        """The services whose instances the views among `destinations` choose from."""
        return {
            selected
            for target in destinations
            if target.kind is Kind.SERVICE and _key(target) in self._manifest
            for selected in self._manifest[_key(target)].targets
        }


def _key(target: Target) -> PolicyKey:
    return PolicyKey(target.kind, target.namespace, target.name)


def _plain(target: Target) -> Target:
    """A target that compares by what it means: there is one mesh, and a namespace has one name."""
    match target.kind:
        case Kind.MESH:
            return Target(Kind.MESH, "", "")
        case Kind.NAMESPACE:
            return Target(Kind.NAMESPACE, target.namespace, target.namespace)
        case Kind.SERVICE | Kind.EXTERNAL_SERVICE:
            return target


def _groups(target: Target) -> tuple[Target, Target, Target]:
    """A service and the groups that it belongs to."""
    namespace = target.namespace
    return (target, Target(Kind.NAMESPACE, namespace, namespace), Target(Kind.MESH, "", ""))


def _deciding(own: Target, destinations: Iterable[Target]) -> set[Target]:
    """What an access policy that this sidecar enforces may target: the service itself, and the
    destinations outside the mesh, for which the caller's sidecar decides.
    """
    external = {target for target in destinations if target.kind is Kind.EXTERNAL_SERVICE}
    return {group for target in (own, *external) for group in _groups(target)}
