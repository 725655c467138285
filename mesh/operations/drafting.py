"""From files to what shall be in the mesh: the front end's work, ready to be planned."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from mesh.diagnostics import Diagnostic, Severity
from mesh.documents import codec
from mesh.documents.front_end import front_end
from mesh.documents.index import Parsed
from mesh.documents.parser import SourceText
from mesh.documents.references import References, references
from mesh.errors import InvalidDocuments
from mesh.model.identity import ServiceName
from mesh.model.policy import Default, Kind, Mesh, Policy, PolicyKey, Service, Target
from mesh.model.revision import Applied, ManifestEntry, Policies
from mesh.operations.reading import Reading
from mesh.planning.manifest import MAX_OBJECT_BYTES
from mesh.planning.plan import Desired


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafted:
    """The documents that were read; `diagnostics` are warnings, or every mistake of `check`."""

    documents: int
    desired: Mapping[PolicyKey, Desired]
    diagnostics: tuple[Diagnostic, ...] = ()

    @property
    def is_valid(self) -> bool:
        """Whether the set may be applied; warnings may remain."""
        return all(item.severity is not Severity.ERROR for item in self.diagnostics)


def draft(
    reading: Reading,
    *,
    existing: Mapping[PolicyKey, ManifestEntry],
    objects: Mapping[str, bytes],
) -> Drafted:
    """What the files want, linked with the `existing` documents of other sources, whose canonical
    JSON is in `objects` by digest.

    Raises:
        InvalidDocuments: there are mistakes.
    """
    others = {
        key: Applied(policy=codec.decode(objects[entry.digest]), entry=entry)
        for key, entry in existing.items()
    }
    drafted = check(reading, existing=others)
    if not drafted.is_valid:
        raise InvalidDocuments(drafted.diagnostics, drafted.documents)
    return drafted


def check(reading: Reading, *, existing: Policies | None = None, partial: bool = False) -> Drafted:
    """As `draft`, with every mistake as a diagnostic, sorted by place."""
    sources = [SourceText(file.name, file.data) for file in reading.files]
    result = front_end(sources, partial=partial, existing=existing or {})
    found = (*reading.diagnostics, *result.diagnostics, *_too_large(result.policies))
    return Drafted(
        documents=result.documents,
        desired={item.key: _desired(item) for item in result.policies},
        diagnostics=tuple(sorted(found)),
    )


def _too_large(items: Iterable[Parsed]) -> Iterator[Diagnostic]:
    """Documents that pass the parser's bound, but whose canonical form does not fit a request."""
    for item in items:
        if len(item.canonical) > MAX_OBJECT_BYTES:
            yield Diagnostic(
                position=item.position,
                severity=Severity.ERROR,
                code="document-too-large",
                message=f"{item.key} has {len(item.canonical)} bytes as JSON; "
                f"the store takes {MAX_OBJECT_BYTES}",
                hint="split it into several documents",
            )


def _desired(item: Parsed) -> Desired:
    targets, uses, admits = index(item.policy)
    return Desired(
        key=item.key,
        digest=item.digest,
        file=item.position.file,
        line=item.position.line,
        targets=targets,
        uses=uses,
        admits=admits,
        canonical=item.canonical,
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
