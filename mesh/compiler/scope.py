"""What concerns one sidecar: the services that it may call, and what protects its own.

A caller sees the services that its Service document declares as `dependencies`, else those whose
access policies admit it (audit rules included: there must be something to record), else, where
the mesh allows by default, every one. The callee decides each request by itself all the same:
the scope is what a caller can name, not what it may do.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from mesh.compiler.destinations import Traffic, destination, positions, traffic
from mesh.compiler.directory import Directory, Known, directory, implicit, service_target
from mesh.compiler.precedence import attached, backends, implicit_route, ordered
from mesh.compiler.view import (
    Destination,
    Inbound,
    TCPUpstream,
    View,
    VirtualService,
)
from mesh.diagnostics import Position
from mesh.model.catalog import Catalog
from mesh.model.identity import SVID, ServiceName, TrustBundle
from mesh.model.placement import Placement
from mesh.model.policy import (
    AccessPolicy,
    Action,
    Default,
    Kind,
    Protocol,
    Service,
    Target,
)
from mesh.model.revision import Policies

_Access = tuple[tuple[AccessPolicy, Position], ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a sidecar needs of Discovery: the instances registered as these `services`; with
    `names` also every registered service's name.
    """

    services: frozenset[ServiceName] = frozenset()
    names: bool = False


class Reach:
    """What the sidecars of one service can name, and all that it is sent to from there.

    `policies` may be the whole mesh or what `planning.scope` chose for the service. `names` are
    the registered names as far as they are known (`Catalog.names`): where the mesh allows by
    default, those without a document are in scope too.
    """

    def __init__(
        self, policies: Policies, caller: ServiceName, names: frozenset[ServiceName] = frozenset()
    ) -> None:
        self._known = known = directory(policies)
        self._caller = caller
        self._settings: dict[Target, Traffic] = {}
        named = _named(known, caller, names)
        self._http = [item for item in named if item.service.protocol.is_http]
        self._tcp = [item for item in named if not item.service.protocol.is_http]
        self._routes = {item.target: attached(known, item, caller) for item in self._http}
        self._destinations = self._reached()
        self._services = tuple(map(self._virtual_service, self._http))

    @property
    def interest(self) -> Wanted:
        """Whose instances the sidecars watch: those that destinations select from."""
        selected = frozenset(
            item.service.selector.service
            for item in self._destinations.values()
            if isinstance(item.service, Service)
        )
        return Wanted(services=selected, names=self._known.mesh.access_default is Default.ALLOW)

    @property
    def tcp_upstreams(self) -> tuple[ServiceName, ...]:
        """The TCP services in scope, sorted: each needs a loopback address in the Placement."""
        return tuple(sorted(item.service.name for item in self._tcp))

    def view(
        self,
        *,
        revision: int,
        catalog: Catalog,
        placement: Placement,
        svid: SVID | None,
        bundle: TrustBundle | None,
    ) -> View:
        """What the sidecar at `placement` needs, with every question of precedence answered."""
        known = self._known
        trust_domain = bundle.trust_domain if bundle else known.mesh.trust_domain
        destinations = {
            target: destination(item, self._traffic(target), catalog, trust_domain)
            for target, item in self._destinations.items()
        }
        return View(
            revision=revision,
            trust_domain=trust_domain,
            placement=placement,
            max_connection_duration=known.mesh.max_connection_duration,
            access_default=known.mesh.access_default,
            destinations=destinations,
            services=self._services,
            upstreams=_upstreams(self._tcp, placement, destinations),
            inbound=_inbound(known, placement),
            outbound_access=_outbound_access(known, destinations),
            svid=svid,
            bundle=bundle,
        )

    def _reached(self) -> dict[Target, Known]:
        """What any request can end at: the backends of routes, and the TCP services."""
        found = {item.target: item for item in self._tcp}
        for item in self._http:
            if routes := self._routes[item.target]:
                found.update(
                    (each, self._known.known[each]) for each in backends(routes, self._known)
                )
            else:
                found[item.target] = item
        return dict(sorted(found.items()))

    def _traffic(self, target: Target) -> Traffic:
        """How the caller treats a destination."""
        if target not in self._settings:
            self._settings[target] = traffic(self._known, target, self._caller)
        return self._settings[target]

    def _virtual_service(self, item: Known) -> VirtualService:
        """What answers to the hosts of an HTTP service."""
        settings = self._traffic(item.target)
        routes = self._routes[item.target]
        made = (
            ordered(routes, settings, self._known) if routes else (implicit_route(item, settings),)
        )
        places = {place for route in made for place in route.sources}
        places |= {*positions(item.entry), *settings.sources}
        return VirtualService(
            target=item.target,
            hosts=_hosts(item.service.name, self._caller.namespace),
            port=item.service.port,
            routes=made,
            sources=tuple(sorted(places)),
        )


def build_view(
    *,
    revision: int,
    policies: Policies,
    catalog: Catalog,
    placement: Placement,
    svid: SVID | None,
    bundle: TrustBundle | None,
) -> View:
    """The view of one `Reach`, from first to last."""
    reach = Reach(policies, placement.service, catalog.names)
    return reach.view(
        revision=revision, catalog=catalog, placement=placement, svid=svid, bundle=bundle
    )


def _named(known: Directory, caller: ServiceName, names: frozenset[ServiceName]) -> list[Known]:
    """The services that answer to a name for this caller, sorted.

    Each name once: a Service comes before an ExternalService of its name, and that before what
    is only registered.
    """
    own = known.known.get(service_target(caller))
    declared = own.service.dependencies if own and isinstance(own.service, Service) else None
    found: dict[ServiceName, Known] = {}
    for item in _everything(known, names):
        name = item.service.name
        is_seen = name in declared if declared is not None else _is_admitted(known, item, caller)
        if is_seen and _may_leave(known, item, caller):
            found[name] = item
    return sorted(found.values(), key=lambda item: item.target)


def _everything(known: Directory, names: frozenset[ServiceName]) -> Iterator[Known]:
    """All of the mesh, Services last. What is only registered is there where all may call all."""
    if known.mesh.access_default is Default.ALLOW:
        yield from map(implicit, names)
    for kind in (Kind.EXTERNAL_SERVICE, Kind.SERVICE):
        yield from (item for target, item in known.known.items() if target.kind is kind)


def _is_admitted(known: Directory, item: Known, caller: ServiceName) -> bool:
    """Whether the default or a rule lets the caller see a service.

    A view is its base's: what admits to the base admits to the view.
    """
    if known.mesh.access_default is Default.ALLOW:
        return True
    return any(_admits(policy, caller) for policy in _policies_on(known, item))


def _may_leave(known: Directory, item: Known, caller: ServiceName) -> bool:
    """Whether the caller's own sidecar lets it call what lies outside the mesh at all.

    It answers HTTP by rules of its own; a TCP service outside is reachable or it is not there.
    """
    if isinstance(item.service, Service):
        return True
    if item.service.protocol.is_http:
        return _is_admitted(known, item, caller)
    rules = [rule for policy in _policies_on(known, item) for rule in policy.rules]
    mine = [rule for rule in rules if rule.concerns(caller)]
    if any(rule.action is Action.DENY for rule in mine):
        return False
    allowed = any(rule.action is Action.ALLOW and not rule.operations for rule in mine)
    return allowed or known.mesh.access_default is Default.ALLOW


def _policies_on(known: Directory, item: Known) -> list[AccessPolicy]:
    if isinstance(item.service, Service):
        return [policy for policy, _ in known.protecting(item.service.identity_of)]
    return [policy for policy, _ in known.access.get(item.target, ())]


def _admits(policy: AccessPolicy, caller: ServiceName) -> bool:
    return any(rule.action is not Action.DENY and rule.concerns(caller) for rule in policy.rules)


def _hosts(name: ServiceName, namespace: str) -> tuple[str, ...]:
    """The hosts of a service; the short one in its own namespace."""
    long = f"{name.name}.{name.namespace}"
    short = (name.name,) if name.namespace == namespace else ()
    return (*short, long, f"{long}.mesh")


def _upstreams(
    tcp: Iterable[Known], placement: Placement, destinations: Mapping[Target, Destination]
) -> tuple[TCPUpstream, ...]:
    """The TCP services that have an address by now."""
    return tuple(
        TCPUpstream(
            listen=placement.upstreams[item.service.name],
            destination=item.target,
            sources=destinations[item.target].sources,
        )
        for item in tcp
        if item.service.name in placement.upstreams
    )


def _inbound(known: Directory, placement: Placement) -> Inbound | None:
    if placement.inbound is None or placement.app is None:
        return None
    own = known.known.get(service_target(placement.service))
    access = [(policy, entry.position) for policy, entry in known.protecting(placement.service)]
    return Inbound(
        protocol=own.service.protocol if own else Protocol.HTTP,
        listen=placement.inbound,
        app=placement.app,
        access_default=known.mesh.access_default,
        access=tuple(access),
        sources=positions(own.entry) if own else (),
    )


def _outbound_access(
    known: Directory, destinations: Mapping[Target, Destination]
) -> dict[Target, _Access]:
    """The rules of what lies outside the mesh, for the caller's own sidecar to decide."""
    return {
        target: tuple(
            (policy, entry.position)
            for policy, entry in sorted(known.access.get(target, ()), key=lambda i: i[0].key)
        )
        for target in destinations
        if target.kind is Kind.EXTERNAL_SERVICE
    }
