"""HTTPRoutes against the rest of the set: parents, backends, ports, equal matches."""

from collections.abc import Iterator

from mesh.diagnostics import Diagnostic, Position, Severity
from mesh.documents.index import Index, Placed, shown
from mesh.documents.values import Path
from mesh.documents.wording import Finding
from mesh.model.policy import HTTPMatch, HTTPRoute, Kind, PathMatchType, Target


def link_routes(index: Index) -> Iterator[Diagnostic]:
    """What is wrong with the references of the set's HTTPRoutes."""
    for route, placed in index.of(HTTPRoute):
        if placed.document is not None:
            for finding in route_references(index, route):
                yield from placed.report(finding)
    yield from _equal_matches(index)


def route_references(index: Index, route: HTTPRoute) -> Iterator[Finding]:
    """What is wrong with the parents and backends of a route."""
    subject = f'HTTPRoute "{route.key.name}"'
    for number, parent in enumerate(route.parents):
        path: Path = ("spec", "parentRefs", number)
        yield from _reference(
            index, path, ("unknown-parent", f"{subject} is for"), parent.target, parent.port
        )
    if route.hostnames and any(parent.target.kind is Kind.SERVICE for parent in route.parents):
        yield Finding(("spec", "hostnames"), "ignored-field",
                      "hostnames have no meaning for a Service parent",
                      "remove them; callers name the Service", key=True,
                      severity=Severity.WARNING)  # fmt: skip
    for rule_number, rule in enumerate(route.rules):
        for number, backend in enumerate(rule.backends):
            path = ("spec", "rules", rule_number, "backendRefs", number)
            yield from _reference(
                index,
                path,
                ("unknown-backend", f"{subject} sends to"),
                backend.target,
                backend.port,
            )


def _reference(
    index: Index, path: Path, words: tuple[str, str], target: Target, port: int | None
) -> Iterator[Finding]:
    code, subject = words
    if missing := index.dangling((*path, "name"), code, subject, target):
        yield missing
        return
    destination = index.destination(target)
    if destination is None:
        return
    if not destination.protocol.is_http:
        yield Finding((*path, "name"), "tcp-target",
                      f'{subject} {target.kind} "{shown(target)}", which speaks tcp',
                      "routes need requests; call the service by its own port")  # fmt: skip
    if port is not None and port != destination.port:
        yield Finding((*path, "port"), "unknown-port",
                      f'{target.kind} "{shown(target)}" has no port {port}',
                      f"its port is {destination.port}")  # fmt: skip


_MatchKey = tuple[object, ...]


def _equal_matches(index: Index) -> Iterator[Diagnostic]:
    """Of two equal matches for the same callers one never decides anything."""
    first: dict[_MatchKey, tuple[HTTPRoute, Placed, Path]] = {}
    for route, placed in index.of(HTTPRoute):
        for callers in sorted({_callers(route, parent.target) for parent in route.parents}):
            for path, match in _matches(route):
                key = (*callers, *_normal(match))
                other, there, its_path = first.setdefault(key, (route, placed, path))
                if (there, its_path) == (placed, path):
                    continue
                winner = f'HTTPRoute "{other.key.name}"'
                message = f"this match is equal to another one, in {winner}"
                related: tuple[tuple[Position, str], ...] = (
                    (there.place(its_path), "the equal match"),
                )
                yield from placed.report(
                    Finding(path, "equal-match", message,
                            "the older route wins, then the name that sorts first, then the "
                            "earlier rule; remove one", related=related,
                            severity=Severity.WARNING))  # fmt: skip


def _callers(route: HTTPRoute, target: Target) -> tuple[Target, str]:
    """Whose requests: everybody's (producer route), or those of the route's namespace."""
    is_consumer = route.key.namespace != target.namespace
    return target, route.key.namespace if is_consumer else ""


def _matches(route: HTTPRoute) -> Iterator[tuple[Path, HTTPMatch]]:
    for rule_number, rule in enumerate(route.rules):
        for number, match in enumerate(rule.matches):
            yield ("spec", "rules", rule_number, "matches", number), match


def _normal(match: HTTPMatch) -> _MatchKey:
    path = match.path.value
    if match.path.type is PathMatchType.PREFIX:
        path = path.rstrip("/")
    return match.path.type, path, match.method, frozenset(match.headers), frozenset(match.query)
