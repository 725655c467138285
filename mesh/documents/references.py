"""What a policy names: the index that lets a sidecar read only what concerns it."""

from mesh.documents.access import MESH_NAME
from mesh.model.policy import (
    AccessPolicy,
    Action,
    Caller,
    ExternalService,
    HTTPRoute,
    Kind,
    Mesh,
    Policy,
    Service,
    Target,
    TrafficPolicy,
)

References = tuple[tuple[Target, ...], tuple[Target, ...], tuple[Target, ...]]


def references(policy: Policy) -> References:
    """`targets`, `uses` and `admits` of a manifest entry, each sorted and without repetition.

    A dependency is named as a Service, also where it is an ExternalService: the document does
    not say which. A rule without callers admits everybody: a target of kind Mesh.
    """
    match policy:
        case Mesh() | ExternalService():
            return (), (), ()
        case Service():
            return (), _sorted(_used_by_service(policy)), ()
        case HTTPRoute():
            parents = {parent.target for parent in policy.parents}
            backends = {backend.target for rule in policy.rules for backend in rule.backends}
            return _sorted(parents), _sorted(backends), ()
        case TrafficPolicy():
            return _sorted(set(policy.targets)), (), ()
        case AccessPolicy():
            return _sorted(set(policy.targets)), (), _sorted(_admitted(policy))


def _used_by_service(policy: Service) -> set[Target]:
    names = set(policy.dependencies or ())
    if policy.selector.service != policy.name:
        names.add(policy.selector.service)
    return {Target(Kind.SERVICE, name.namespace, name.name) for name in names}


def _admitted(policy: AccessPolicy) -> set[Target]:
    admitted: set[Target] = set()
    for rule in policy.rules:
        if rule.action is Action.DENY:
            continue
        admitted.update(map(_caller, rule.callers))
        if not rule.callers:
            admitted.add(Target(Kind.MESH, policy.key.namespace, MESH_NAME))
    return admitted


def _caller(caller: Caller) -> Target:
    if caller.service is None:
        return Target(Kind.NAMESPACE, caller.namespace, caller.namespace)
    return Target(Kind.SERVICE, caller.namespace, caller.service)


def _sorted(targets: set[Target]) -> tuple[Target, ...]:
    return tuple(sorted(targets))
