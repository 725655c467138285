"""Which documents concern one service's sidecars, from the manifest alone.

A Service's entry has the service that it is a view of in `targets` and its dependencies in
`uses`; a Mesh that allows by default has itself in `targets` and `admits`.

The answer may hold a document too many, never one too few: a sidecar fetches these and no others,
and `plan` tells by them which sidecars a change touches.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from mesh.model.identity import ServiceName
from mesh.model.policy import Kind, PolicyKey, Target
from mesh.model.revision import Manifest, ManifestEntry

_SERVICES = (Kind.SERVICE, Kind.EXTERNAL_SERVICE)
_MESH = Target(Kind.MESH, "", "")


def closure(manifest: Manifest, service: ServiceName) -> frozenset[PolicyKey]:
    """The documents that decide what a sidecar of `service` runs; see `Scopes.closure`."""
    return Scopes(manifest).closure(service)


_Entries = dict[PolicyKey, ManifestEntry]


class Scopes:
    """An index of a manifest that answers for many services, and follows its changes."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest: _Entries = {}
        self._meshes: _Entries = {}
        self._targeting: defaultdict[tuple[str, Target], _Entries] = defaultdict(dict)
        self._admitting: defaultdict[Target, _Entries] = defaultdict(dict)
        self._members: defaultdict[str, defaultdict[Target, set[PolicyKey]]] = defaultdict(
            lambda: defaultdict(set)
        )
        for entry in manifest.values():
            self.put(entry)

    @property
    def manifest(self) -> Manifest:
        """What it is an index of."""
        return self._manifest

    def put(self, entry: ManifestEntry) -> None:
        """Take an entry in, in the place of the one of that document."""
        self.drop(entry.key)
        self._manifest[entry.key] = entry
        for drawer in self._drawers(entry):
            drawer[entry.key] = entry
        for target in _members(entry):
            self._members[target.namespace][target].add(entry.key)

    def drop(self, key: PolicyKey) -> None:
        """Forget a document, if it is known."""
        entry = self._manifest.pop(key, None)
        if entry is None:
            return
        for drawer in self._drawers(entry):
            drawer.pop(key, None)
        for target in _members(entry):
            namespace = self._members[target.namespace]
            namespace[target].discard(key)
            if not namespace[target]:
                del namespace[target]

    def _drawers(self, entry: ManifestEntry) -> Iterator[_Entries]:
        for target in entry.targets:
            yield self._targeting[entry.key.kind, _plain(target)]
        for target in entry.admits:
            yield self._admitting[_plain(target)]
        if entry.key.kind == Kind.MESH:
            yield self._meshes

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
            for route in self._targeting.get(("HTTPRoute", target), {}).values()
            if route.key.namespace in (service.namespace, target.namespace)
        }
        destinations = named | {backend for route in routes.values() for backend in route.uses}
        destinations |= self._selected(destinations)
        keys = {entry.key for entry in admitting} | self._meshes.keys() | routes.keys()
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
            for entry in self._targeting.get((kind, group), {}).values()
        )

    def _policies(self, kind: str, targets: Iterable[Target]) -> set[PolicyKey]:
        return {key for target in targets for key in self._targeting.get((kind, target), ())}

    def _admitting_entries(self, service: ServiceName) -> list[ManifestEntry]:
        """The entries that let this caller see something."""
        own = Target(Kind.SERVICE, service.namespace, service.name)
        return [
            entry for target in _groups(own) for entry in self._admitting.get(target, {}).values()
        ]

    def _callable(self, own: Target, admitting: Iterable[ManifestEntry]) -> set[Target]:
        """The services that answer to a name here: declared, admitted, and views of those."""
        found: set[Target] = set()
        if _key(own) in self._manifest:
            for declared in self._manifest[_key(own)].uses:
                # The document does not say of which kind its dependency is.
                found |= {declared._replace(kind=kind) for kind in _SERVICES}
        for entry in admitting:
            for target in entry.targets:
                found |= self._standing_for(target)
        views = {
            Target(Kind.SERVICE, entry.key.namespace, entry.key.name)
            for target in found
            for entry in self._targeting.get(("Service", target), {}).values()
        }
        return found | views

    def _standing_for(self, target: Target) -> set[Target]:
        """The services that a target means."""
        match target.kind:
            case Kind.SERVICE | Kind.EXTERNAL_SERVICE:
                return {target}
            case Kind.NAMESPACE:
                return set(self._members.get(target.namespace, ()))
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


def _members(entry: ManifestEntry) -> Iterator[Target]:
    """The services that a document puts into their namespaces."""
    kind, namespace = entry.key.kind, entry.key.namespace
    if kind in _SERVICES:
        yield Target(Kind(kind), namespace, entry.key.name)
    if kind == Kind.SERVICE:
        # What a view chooses from may have no document, and is protected all the same.
        yield from entry.targets


def _key(target: Target) -> PolicyKey:
    return PolicyKey(target.kind, target.namespace, target.name)


def _plain(target: Target) -> Target:
    """A target that compares by what it means: there is one mesh, and a namespace has one name."""
    match target.kind:
        case Kind.MESH:
            return _MESH
        case Kind.NAMESPACE:
            return Target(Kind.NAMESPACE, target.namespace, target.namespace)
        case Kind.SERVICE | Kind.EXTERNAL_SERVICE:
            return target


def _groups(target: Target) -> tuple[Target, Target, Target]:
    """A service and the groups that it belongs to."""
    namespace = target.namespace
    return (target, Target(Kind.NAMESPACE, namespace, namespace), _MESH)


def _deciding(own: Target, destinations: Iterable[Target]) -> set[Target]:
    """What an access policy that this sidecar enforces may target: the service itself, and the
    destinations outside the mesh, for which the caller's sidecar decides.
    """
    external = {target for target in destinations if target.kind is Kind.EXTERNAL_SERVICE}
    return {group for target in (own, *external) for group in _groups(target)}
