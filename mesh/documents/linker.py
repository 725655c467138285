"""The whole set at once: what no document can be blamed for alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mesh.diagnostics import Diagnostic
from mesh.documents.index import Index, Parsed
from mesh.documents.parser import Document
from mesh.documents.policy_links import (
    access_references,
    link_access,
    link_traffic,
    traffic_references,
)
from mesh.documents.route_links import link_routes, route_references
from mesh.documents.salvage import Remnant
from mesh.documents.values import Path
from mesh.documents.wording import Finding
from mesh.model.policy import (
    AccessPolicy,
    ExternalService,
    HTTPRoute,
    Kind,
    Mesh,
    Policy,
    PolicyKey,
    Service,
    Target,
    TrafficPolicy,
)
from mesh.model.revision import Policies


@dataclass(frozen=True, slots=True)
class Partial:
    """What could be read of a document with mistakes: its references are checked all the same."""

    policy: Policy
    remnant: Remnant


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkInput:
    """Everything that a set of documents is checked with.

    `documents` are all that could be read, with or without mistakes; `parsed` those without,
    `partials` what is left of the others.
    `existing` are the policies of other sources. With `partial`, references that lack their
    target are warnings.
    """

    documents: Sequence[Document]
    parsed: Sequence[Parsed]
    partials: Sequence[Partial] = ()
    unreadable: tuple[bytes, ...] = ()
    existing: Policies
    partial: bool = False


def link(given: LinkInput) -> list[Diagnostic]:
    """What is wrong between the documents, in no particular order."""
    sound = {item.document for item in given.parsed}
    keys = [(document.key(), document) for document in given.documents]
    broken = {key for key, document in keys if key is not None and document not in sound}
    nameless = [document.data.get("kind") for key, document in keys if key is None]
    index = Index(
        given.parsed,
        given.existing,
        broken,
        given.unreadable,
        nameless=nameless,
        partial=given.partial,
    )
    found = list(_duplicates(given, keys))
    found += _meshes(index)
    found += _clashes(index)
    found += _services(index)
    found += link_routes(index)
    found += link_traffic(index)
    found += link_access(index)
    for partial in given.partials:
        findings = partial.remnant.told(_references(index, partial.policy))
        found += [finding.diagnostic(partial.remnant.document) for finding in findings]
    return found


def _references(index: Index, policy: Policy) -> Iterator[Finding]:
    """What is wrong with what one policy names."""
    match policy:
        case Service():
            yield from service_references(index, policy)
        case HTTPRoute():
            yield from route_references(index, policy)
        case TrafficPolicy():
            yield from traffic_references(index, policy)
        case AccessPolicy():
            yield from access_references(index, policy)
        case Mesh() | ExternalService():
            return


def _duplicates(
    given: LinkInput, keys: Sequence[tuple[PolicyKey | None, Document]]
) -> Iterator[Diagnostic]:
    first: dict[PolicyKey, Document] = {}
    for key, document in keys:
        if key is None:
            continue
        path: Path = ("metadata", "name")
        other = first.setdefault(key, document)
        if other is not document:
            related = ((other.place(path), "first defined here"),)
            yield Finding(path, "duplicate-document", f"{key} is defined twice",
                          "rename or remove one of the two", related=related
                          ).diagnostic(document)  # fmt: skip
        elif key in given.existing:
            entry = given.existing[key].entry
            related = ((entry.position, f"defined by source {entry.source}"),)
            yield Finding(path, "owned-elsewhere",
                          f'{key} belongs to source "{entry.source}"',
                          "change it there, or rename this one", related=related
                          ).diagnostic(document)  # fmt: skip


def _meshes(index: Index) -> Iterator[Diagnostic]:
    placed = [placed for _, placed in index.of(Mesh)]
    for here in placed[1:]:
        related = ((placed[0].position, "the other one"),)
        yield from here.report(
            Finding(("kind",), "duplicate-mesh", "a second Mesh document",
                    "there is one for the whole mesh; keep one", related=related))  # fmt: skip


def _clashes(index: Index) -> Iterator[Diagnostic]:
    services = {service.name: placed for service, placed in index.of(Service)}
    for external, placed in index.of(ExternalService):
        other = services.get(external.name)
        if other is not None:
            path: Path = ("metadata", "name")
            here, there = (placed, other) if placed.document is not None else (other, placed)
            related = ((there.place(path), "the other one"),)
            yield from here.report(
                Finding(path, "name-clash",
                        f'a Service and an ExternalService are both named "{external.name}"',
                        "rename one: both would answer to the same host",
                        related=related))  # fmt: skip


def _services(index: Index) -> Iterator[Diagnostic]:
    for service, placed in index.of(Service):
        if placed.document is None:
            continue
        for finding in service_references(index, service):
            yield from placed.report(finding)


def service_references(index: Index, service: Service) -> Iterator[Finding]:
    """What is wrong with the services that a Service names."""
    yield from _view(index, service)
    for number, name in enumerate(service.dependencies or ()):
        target = Target(Kind.SERVICE, name.namespace, name.name)
        if index.is_defined(Kind.EXTERNAL_SERVICE, name):
            continue
        subject = f'Service "{service.key.name}" depends on'
        path: Path = ("spec", "dependencies", number)
        if missing := index.dangling(path, "unknown-service", subject, target):
            yield missing


def _view(index: Index, view: Service) -> Iterator[Finding]:
    """A view selects instances of a Service that has them itself and speaks the same."""
    name = view.selector.service
    if name == view.name:
        return
    path: Path = ("spec", "instances", "service")
    target = Target(Kind.SERVICE, name.namespace, name.name)
    subject = f'Service "{view.key.name}" is a view of'
    if missing := index.dangling(path, "unknown-service", subject, target):
        yield missing
    base = index.destination(target)
    if not isinstance(base, Service):
        return
    if base.selector.service != base.name:
        yield Finding(path, "view-of-view", f'"{name.name}" is itself a view',
                      f'name the service that it is a view of: "{base.selector.service.name}"'
                      )  # fmt: skip
    elif base.protocol is not view.protocol:
        yield Finding(("spec", "protocol"), "view-protocol",
                      f'the view speaks {view.protocol}, Service "{name.name}" {base.protocol}',
                      f"write protocol: {base.protocol}")  # fmt: skip
