"""Which documents concern one service's sidecars, from the manifest alone.

A Service's entry has the service that it is a view of in `targets` and its dependencies in
`uses`; a Mesh that allows by default has itself in `targets` and `admits`.

The answer may hold a document too many, never one too few: a sidecar fetches these and no others,
and `plan` tells by them which sidecars a change touches.
"""

from mesh.model.identity import ServiceName
from mesh.model.policy import Kind, PolicyKey, Target
from mesh.model.revision import Manifest, ManifestEntry

_SERVICES = (Kind.SERVICE, Kind.EXTERNAL_SERVICE)


def closure(manifest: Manifest, service: ServiceName) -> frozenset[PolicyKey]:
    """The documents that decide what a sidecar of `service` runs.

    The Mesh; the Service itself; access policies on it, its namespace or the mesh; what it may
    call (what it declares, what admits it, everything where the Mesh allows by default), views
    of that, the routes on it for this caller, their backends, and the traffic policies and
    outbound access policies of all these.
    """
    return _Closure(manifest, service).keys()


class _Closure:
    """The work of `closure`, one question per method."""

    def __init__(self, manifest: Manifest, service: ServiceName) -> None:
        self._manifest = manifest
        self._service = service
        self._own = Target(Kind.SERVICE, service.namespace, service.name)
        self._by_kind: dict[str, list[ManifestEntry]] = {}
        for entry in manifest.values():
            self._by_kind.setdefault(entry.key.kind, []).append(entry)

    def keys(self) -> frozenset[PolicyKey]:
        """The whole answer."""
        callable_ = self._callable()
        routes = [entry for entry in self._of("HTTPRoute") if self._routes_for_us(entry, callable_)]
        destinations = callable_ | {backend for route in routes for backend in route.uses}
        destinations |= self._selected(destinations)
        found = {entry.key for entry in self._of("Mesh")}
        found |= {entry.key for entry in routes}
        found |= {
            key
            for target in (*destinations, self._own)
            if (key := PolicyKey(target.kind, target.namespace, target.name)) in self._manifest
        }
        found |= {
            entry.key
            for entry in self._of("TrafficPolicy")
            if any(target in destinations for target in entry.targets)
        }
        return frozenset(found | self._access(destinations))

    def _of(self, kind: str) -> list[ManifestEntry]:
        return self._by_kind.get(kind, [])

    def _callable(self) -> set[Target]:
        """The services that answer to a name here: declared, admitted, and views of those."""
        found: set[Target] = set()
        own = self._manifest.get(PolicyKey("Service", self._own.namespace, self._own.name))
        if own is not None:
            found.update(target for target in own.uses if target.kind in _SERVICES)
        for entry in (*self._of("Mesh"), *self._of("AccessPolicy")):
            if any(self._is_us(target) for target in entry.admits):
                for target in entry.targets:
                    found |= self._members(target)
        for entry in self._of("Service"):
            if any(target in found for target in entry.targets):
                found.add(_named(entry))
        return found

    def _is_us(self, target: Target) -> bool:
        return target.kind is Kind.MESH or target == self._own or self._is_our_namespace(target)

    def _is_our_namespace(self, target: Target) -> bool:
        return target.kind is Kind.NAMESPACE and target.namespace == self._service.namespace

    def _members(self, target: Target) -> set[Target]:
        """The services that a target stands for."""
        if target.kind in _SERVICES:
            return {target}
        return {
            _named(entry)
            for kind in _SERVICES
            for entry in self._of(kind)
            if target.kind is Kind.MESH or entry.key.namespace == target.namespace
        }

    def _routes_for_us(self, route: ManifestEntry, callable_: set[Target]) -> bool:
        """Whether a route is on something we call: its owner's route, or our namespace's own."""
        namespaces = {self._service.namespace}
        return any(
            target in callable_ and route.key.namespace in namespaces | {target.namespace}
            for target in route.targets
        )

    def _selected(self, destinations: set[Target]) -> set[Target]:
        """The services whose instances the views among `destinations` choose from."""
        found: set[Target] = set()
        for target in destinations:
            entry = self._manifest.get(PolicyKey(target.kind, target.namespace, target.name))
            if entry is not None and entry.key.kind == Kind.SERVICE:
                found.update(entry.targets)
        return found

    def _access(self, destinations: set[Target]) -> set[PolicyKey]:
        """The access policies that decide here or that opened a way for us."""
        external = {target for target in destinations if target.kind is Kind.EXTERNAL_SERVICE}
        namespaces = {target.namespace for target in external} | {self._service.namespace}

        def concerns(target: Target) -> bool:
            if target.kind is Kind.NAMESPACE:
                return target.namespace in namespaces
            return target.kind is Kind.MESH or target == self._own or target in external

        return {
            entry.key
            for entry in self._of("AccessPolicy")
            if any(concerns(target) for target in entry.targets)
            or any(self._is_us(target) for target in entry.admits)
        }


def _named(entry: ManifestEntry) -> Target:
    return Target(Kind(entry.key.kind), entry.key.namespace, entry.key.name)
