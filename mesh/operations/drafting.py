"""From files to what shall be in the mesh: the front end's work, ready to be planned."""

from collections.abc import Mapping
from dataclasses import dataclass

from mesh.diagnostics import Diagnostic, Severity
from mesh.documents import codec
from mesh.documents.parser import SourceText, parse
from mesh.documents.references import references
from mesh.documents.schema import check
from mesh.errors import InvalidDocuments
from mesh.model.identity import ServiceName
from mesh.model.policy import Default, Kind, Mesh, Policy, PolicyKey, Service, Target
from mesh.model.revision import ManifestEntry
from mesh.operations.reading import Reading
from mesh.planning.plan import Desired

References = tuple[tuple[Target, ...], tuple[Target, ...], tuple[Target, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafted:
    """The documents that were read; `diagnostics` are warnings, or all mistakes of `check_all`."""

    documents: int
    desired: Mapping[PolicyKey, Desired]
    diagnostics: tuple[Diagnostic, ...] = ()


def draft(
    reading: Reading,
    *,
    existing: Mapping[PolicyKey, ManifestEntry],
    objects: Mapping[str, bytes],
) -> Drafted:
    """What the files want, linked with the `existing` documents of other sources.

    Raises:
        InvalidDocuments: there are mistakes.
    """
    drafted = check_all(reading, existing=existing, objects=objects)
    if any(item.severity is Severity.ERROR for item in drafted.diagnostics):
        raise InvalidDocuments(drafted.diagnostics, drafted.documents)
    return drafted


def check_all(
    reading: Reading,
    *,
    existing: Mapping[PolicyKey, ManifestEntry] | None = None,
    objects: Mapping[str, bytes] | None = None,
    partial: bool = False,
) -> Drafted:
    """As `draft`, with every mistake as a diagnostic, sorted by place."""
    parsed = parse([SourceText(file.name, file.data) for file in reading.files])
    diagnostics = [*reading.diagnostics, *parsed.diagnostics]
    desired = {}
    for document in parsed.documents:
        found = check(document)
        diagnostics += found
        if found or not document.is_sound:
            continue
        policy = codec.policy_of(document)
        canonical = codec.canonical(document)
        desired[policy.key] = _desired(policy, canonical, document.file, document.line)
    return Drafted(
        documents=len(parsed.documents),
        desired=desired,
        diagnostics=tuple(sorted(diagnostics)),
    )


def _desired(policy: Policy, canonical: bytes, file: str, line: int) -> Desired:
    targets, uses, admits = index(policy)
    return Desired(
        key=policy.key,
        digest=codec.digest(canonical),
        file=file,
        line=line,
        targets=targets,
        uses=uses,
        admits=admits,
        canonical=canonical,
    )


def index(policy: Policy) -> References:
    """What a manifest's entry says of its document: `targets`, `uses`, `admits`.

    A view targets the service that it chooses instances of, and uses its dependencies; a Mesh
    that allows by default admits everybody to everything (`planning.scope` reads it so).
    """
    match policy:
        case Mesh():
            everybody = Target(Kind.MESH, policy.key.namespace, policy.key.name)
            open_to = (everybody,) if policy.access_default is Default.ALLOW else ()
            return open_to, (), open_to
        case Service():
            selected = policy.selector.service
            view_of = () if selected == policy.name else (selected,)
            needed = sorted(set(policy.dependencies or ()))
            return _services(view_of), _services(tuple(needed)), ()
        case _:
            return references(policy)


def _services(names: tuple[ServiceName, ...]) -> tuple[Target, ...]:
    return tuple(Target(Kind.SERVICE, name.namespace, name.name) for name in names)
