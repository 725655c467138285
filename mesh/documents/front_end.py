"""Texts in, policies and every mistake out: the whole front end as one function."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from mesh.diagnostics import Diagnostic, Severity
from mesh.documents import rules, schema
from mesh.documents.codec import canonical, digest, policy_in, policy_of
from mesh.documents.index import Parsed
from mesh.documents.linker import LinkInput, Partial, link
from mesh.documents.parser import Document, SourceText, parse
from mesh.documents.salvage import Remnant
from mesh.model.policy import PolicyKey
from mesh.model.revision import Applied, Policies

_NONE: Mapping[PolicyKey, Applied] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Result:
    """`policies` are the documents without mistakes of their own, by key; `documents` counts all,
    the unreadable ones too.

    `diagnostics` are sorted by place. If one is an error the set must not be used.
    """

    policies: tuple[Parsed, ...]
    diagnostics: tuple[Diagnostic, ...]
    documents: int

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """The diagnostics that refuse the set; warnings do not."""
        return tuple(item for item in self.diagnostics if item.severity is Severity.ERROR)


def front_end(
    sources: Sequence[SourceText], *, partial: bool = False, existing: Policies = _NONE
) -> Result:
    """Read, check and link a whole set of documents; every mistake of it in one run.

    Args:
        sources: the texts, in the order in which duplicates count.
        partial: the set is a part of a mesh: a reference that it lacks is a warning.
        existing: what other sources define, as context for references, conflicts and
            ownership. The set's own source must not be in it.
    """
    read = parse(sources)
    diagnostics = list(read.diagnostics)
    parsed: list[Parsed] = []
    partials: list[Partial] = []
    for document in read.documents:
        if schema.is_ignored(document):
            diagnostics.append(schema.without_meaning(document))
            continue
        found, remnant = _check(document)
        diagnostics += found
        if document.is_sound and not _has_errors(found):
            parsed.append(_parsed(document))
        elif remnant is not None and remnant.has_its_name:
            policy = policy_in(remnant.data)
            partials += [Partial(policy, remnant)] if policy is not None else []
    diagnostics += link(
        LinkInput(
            documents=read.documents,
            parsed=parsed,
            partials=partials,
            unreadable=read.unreadable,
            existing=existing,
            partial=partial,
        )
    )
    parsed.sort(key=lambda item: (item.key.kind, item.key.namespace, item.key.name))
    count = len(read.documents) + len(read.unreadable)
    return Result(tuple(parsed), tuple(sorted(set(diagnostics))), count)


def _check(document: Document) -> tuple[list[Diagnostic], Remnant | None]:
    """A document's own mistakes, and what is left of it to look for more.

    What the parser left out would only be told again.
    """
    if not document.is_whole:
        return [], None
    found = schema.check(document)
    remnant: Remnant | None = Remnant(document, document.data)
    if _has_errors(found):
        remnant = schema.remnant_of(document)
    if remnant is not None:
        told = remnant.told(rules.findings(remnant.data))
        found += [finding.diagnostic(document) for finding in told]
    return found, remnant


def _has_errors(found: Sequence[Diagnostic]) -> bool:
    return any(item.severity is Severity.ERROR for item in found)


def _parsed(document: Document) -> Parsed:
    content = canonical(document)
    return Parsed(policy_of(document), content, digest(content), document.position, document)
