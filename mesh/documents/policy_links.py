"""TrafficPolicies and AccessPolicies against the rest of the set."""

from collections.abc import Callable, Iterator
from datetime import timedelta

from mesh.diagnostics import Diagnostic, Severity
from mesh.documents.index import Index, Placed, shown
from mesh.documents.values import Path
from mesh.documents.wording import Finding
from mesh.model.identity import ServiceName
from mesh.model.policy import (
    AccessPolicy,
    Algorithm,
    Caller,
    Kind,
    Mesh,
    Service,
    Target,
    TrafficPolicy,
)

_Targeting = tuple[TrafficPolicy, Placed]
"""A policy of a target, and where it stands."""

_Setting = tuple[Path, Callable[[TrafficPolicy], object]]

_SETTINGS: tuple[_Setting, ...] = (
    (("spec", "loadBalancer", "algorithm"), lambda policy: policy.algorithm),
    (("spec", "timeouts", "connect"), lambda policy: policy.timeouts.connect),
    (("spec", "timeouts", "request"), lambda policy: policy.timeouts.request),
    (("spec", "timeouts", "idle"), lambda policy: policy.timeouts.idle),
    (("spec", "retry"), lambda policy: policy.retry),
    (("spec", "outlierDetection"), lambda policy: policy.outlier_detection),
    (("spec", "limits"), lambda policy: policy.limits),
)
# What only requests have, by its setting.
_HTTP_ONLY: tuple[_Setting, ...] = (
    (("spec", "timeouts", "request"), lambda policy: policy.timeouts.request),
    (("spec", "retry"), lambda policy: policy.retry),
    (
        ("spec", "loadBalancer", "algorithm"),
        lambda policy: policy.algorithm is Algorithm.LATENCY_AWARE or None,
    ),
)


# --- TrafficPolicy --------------------------------------------------------------------------


def link_traffic(index: Index) -> Iterator[Diagnostic]:
    """Targets that are not there or speak tcp, and settings that contradict one another."""
    by_target: dict[Target, list[_Targeting]] = {}
    for policy, placed in index.of(TrafficPolicy):
        for target in policy.targets:
            by_target.setdefault(target, []).append((policy, placed))
        if placed.document is not None:
            for finding in traffic_references(index, policy):
                yield from placed.report(finding)
    seen: set[Diagnostic] = set()
    for target, policies in sorted(by_target.items()):
        inherited = by_target.get(_base(index, target) or target, [])
        for diagnostic in (*_together(target, policies), *_combined(target, policies, inherited)):
            if diagnostic not in seen:
                seen.add(diagnostic)
                yield diagnostic


def traffic_references(index: Index, policy: TrafficPolicy) -> Iterator[Finding]:
    """What is wrong with the targets of a TrafficPolicy."""
    for number, target in enumerate(policy.targets):
        yield from _traffic_target(index, policy, number, target)


def _traffic_target(
    index: Index, policy: TrafficPolicy, number: int, target: Target
) -> Iterator[Finding]:
    path: Path = ("spec", "targetRefs", number, "name")
    subject = f'TrafficPolicy "{policy.key.name}" targets'
    if missing := index.dangling(path, "unknown-target", subject, target):
        yield missing
    destination = index.destination(target)
    if destination is None or destination.protocol.is_http:
        return
    for place, setting in _HTTP_ONLY:
        if setting(policy) is not None:
            yield Finding(place, "tcp-target",
                          f'{".".join(map(str, place[1:]))} needs requests, and {target.kind} '
                          f'"{shown(target)}" speaks tcp',
                          "remove it, or target other services")  # fmt: skip


def _together(target: Target, policies: list[_Targeting]) -> Iterator[Diagnostic]:
    for path, setting in _SETTINGS:
        saying = [(policy, placed) for policy, placed in policies if setting(policy) is not None]
        for other, here in saying[1:]:
            one, there = saying[0]
            if setting(one) != setting(other):
                names = f'"{one.key.name}" and "{other.key.name}"'
                message = (
                    f"TrafficPolicies {names} set {'.'.join(map(str, path[1:]))} of {target.kind} "
                    f'"{shown(target)}" differently'
                )
                related = ((there.place(path), "set differently here"),)
                yield from here.report(
                    Finding(path, "conflicting-policies", message, "keep one of the two",
                            related=related))  # fmt: skip


def _base(index: Index, target: Target) -> Target | None:
    """The service that a target is a view of and speaks as: what it leaves open is as there."""
    view = index.destination(target)
    if not isinstance(view, Service) or view.identity_of == view.name:
        return None
    base = Target(Kind.SERVICE, view.identity_of.namespace, view.identity_of.name)
    service = index.destination(base)
    is_alike = service is not None and service.protocol.is_http == view.protocol.is_http
    return base if is_alike else None


def _combined(
    target: Target, own: list[_Targeting], inherited: list[_Targeting]
) -> Iterator[Diagnostic]:
    """Settings that exclude each other, in one document or in two."""

    def in_force(setting: Callable[[TrafficPolicy], object]) -> list[_Targeting]:
        return [each for each in own if setting(each[0]) is not None] or [
            each for each in inherited if setting(each[0]) is not None
        ]

    balanced = in_force(lambda policy: policy.algorithm)
    aware = [placed for policy, placed in balanced if policy.algorithm is Algorithm.LATENCY_AWARE]
    for policy, placed in in_force(lambda policy: policy.outlier_detection):
        if aware and policy.outlier_detection is False:
            related = ((aware[0].place(("spec", "loadBalancer", "algorithm")), "latency-aware"),)
            yield from placed.report(
                Finding(("spec", "outlierDetection"), "conflicting-policies",
                        f'latency-aware balancing of {target.kind} "{shown(target)}" needs '
                        "outlier detection", 'remove "off"', related=related))  # fmt: skip
    timed = in_force(lambda policy: policy.timeouts.request)
    limits = [policy.timeouts.request for policy, _ in timed if policy.timeouts.request]
    for policy, placed in in_force(lambda policy: policy.retry):
        tried = policy.retry.per_try_timeout if policy.retry else None
        if tried and limits and tried >= min(limits):
            path: Path = ("spec", "retry", "perTryTimeout")
            message = (
                f"one try may take as long as the whole request ({_seconds(tried)} and "
                f"{_seconds(min(limits))}): a try that times out is never retried"
            )
            yield from placed.report(
                Finding(path, "useless-retry", message, "make perTryTimeout shorter",
                        severity=Severity.WARNING))  # fmt: skip


def _seconds(span: timedelta) -> str:
    return f"{span.total_seconds():g}s"


# --- AccessPolicy ---------------------------------------------------------------------------


def link_access(index: Index) -> Iterator[Diagnostic]:
    """Targets that are not there or are views, HTTP rules for tcp, callers that cannot be."""
    for policy, placed in index.of(AccessPolicy):
        if placed.document is None:
            continue
        for finding in access_references(index, policy):
            yield from placed.report(finding)


def access_references(index: Index, policy: AccessPolicy) -> Iterator[Finding]:
    """What is wrong with the targets and callers of an AccessPolicy."""
    for number, target in enumerate(policy.targets):
        yield from _access_target(index, policy, number, target)
    yield from _callers(index, policy)


def _access_target(
    index: Index, policy: AccessPolicy, number: int, target: Target
) -> Iterator[Finding]:
    path: Path = ("spec", "targetRefs", number)
    if target.kind in (Kind.SERVICE, Kind.EXTERNAL_SERVICE):
        yield from _service_target(index, policy, (*path, "name"), target)
        return
    if target.kind is Kind.MESH:
        yield from _mesh_target(index, policy, path)
    tcp = _tcp_services(index, target) if any(rule.operations for rule in policy.rules) else []
    if tcp:
        reason = f"{tcp[0]} speaks tcp and is among the targets"
        yield from _http_rules(policy, reason, Severity.WARNING)


def _service_target(
    index: Index, policy: AccessPolicy, path: Path, target: Target
) -> Iterator[Finding]:
    subject = f'AccessPolicy "{policy.key.name}" targets'
    if missing := index.dangling(path, "unknown-target", subject, target):
        yield missing
    destination = index.destination(target)
    if destination is None:
        return
    if isinstance(destination, Service) and destination.identity_of != destination.name:
        yield Finding(path, "access-on-view",
                      f'"{shown(target)}" is a view and has no identity of its own',
                      f'target Service "{destination.identity_of.name}" of namespace '
                      f'"{destination.identity_of.namespace}"')  # fmt: skip
    if not destination.protocol.is_http:
        yield from _http_rules(policy, f'{target.kind} "{shown(target)}" speaks tcp')


def _mesh_target(index: Index, policy: AccessPolicy, path: Path) -> Iterator[Finding]:
    namespaces = [mesh.key.namespace for mesh, _ in index.of(Mesh)]
    if namespaces and policy.key.namespace not in namespaces:
        yield Finding(path, "foreign-namespace",
                      "a policy for the whole mesh stands in the Mesh document's namespace",
                      f'set metadata.namespace to "{namespaces[0]}"')  # fmt: skip
    if not namespaces and not index.is_broken("Mesh"):
        yield index.lacking(
            Finding(path, "unknown-target",
                    f'AccessPolicy "{policy.key.name}" targets the Mesh, which is not defined',
                    "add a document of kind Mesh to the same namespace"))  # fmt: skip


def _tcp_services(index: Index, target: Target) -> list[str]:
    return [
        f'Service "{service.key.name}"'
        for service, _ in index.of(Service)
        if not service.protocol.is_http
        and (target.kind is Kind.MESH or service.key.namespace == target.namespace)
    ]


def _http_rules(
    policy: AccessPolicy, reason: str, severity: Severity = Severity.ERROR
) -> Iterator[Finding]:
    for number, rule in enumerate(policy.rules):
        if rule.operations:
            yield Finding(("spec", "rules", number, "to"), "http-rule-on-tcp",
                          f'rule "{rule.name}" is about requests, and {reason}',
                          'remove "to", or target http services only', key=True,
                          severity=severity)  # fmt: skip


def _callers(index: Index, policy: AccessPolicy) -> Iterator[Finding]:
    """A caller needs no document, so only what looks like a mistake is told."""
    for rule_number, rule in enumerate(policy.rules):
        for number, caller in enumerate(rule.callers):
            path: Path = ("spec", "rules", rule_number, "from", number, "service")
            yield from _caller(index, caller, path)


def _caller(index: Index, caller: Caller, path: Path) -> Iterator[Finding]:
    if caller.service is None:
        return
    name = ServiceName(caller.namespace, caller.service)
    known = index.destination(Target(Kind.SERVICE, name.namespace, name.name))
    if isinstance(known, Service) and known.identity_of != name:
        yield Finding(path, "view-as-caller",
                      f'"{name.name}" is a view: no caller has that identity',
                      f'name the service itself: "{known.identity_of.name}"')  # fmt: skip
    if not index.is_defined(Kind.SERVICE, name):
        near = index.similar(Kind.SERVICE, name)
        if near:
            yield Finding(path, "unknown-caller", f'no Service "{name.name}" is defined',
                          f'did you mean "{near}"? a caller needs no document',
                          severity=Severity.WARNING)  # fmt: skip
