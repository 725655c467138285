"""Texts in, policies and every mistake out: the whole front end as one function."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from mesh.diagnostics import Diagnostic, Severity
from mesh.documents import rules, schema
from mesh.documents.codec import canonical, digest, policy_of
from mesh.documents.index import Parsed
from mesh.documents.linker import LinkInput, link
from mesh.documents.parser import Document, SourceText, parse
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
    for document in read.documents:
        found = _check(document)
        diagnostics += found
        if document.is_sound and not any(item.severity is Severity.ERROR for item in found):
            parsed.append(_parsed(document))
    diagnostics += link(
        LinkInput(
            documents=read.documents,
            parsed=parsed,
            unreadable=read.unreadable,
            existing=existing,
            partial=partial,
        )
    )
    parsed.sort(key=lambda item: (item.key.kind, item.key.namespace, item.key.name))
    count = len(read.documents) + len(read.unreadable)
    return Result(tuple(parsed), tuple(sorted(set(diagnostics))), count)


def _check(document: Document) -> list[Diagnostic]:
    """A document's own mistakes; what the parser left out would only be told again."""
    if not document.is_sound:
        return []
    found = schema.check(document)
    if any(item.severity is Severity.ERROR for item in found):
        return found
    return found + rules.check(document)


def _parsed(document: Document) -> Parsed:
    content = canonical(document)
    return Parsed(policy_of(document), content, digest(content), document.position, document)
