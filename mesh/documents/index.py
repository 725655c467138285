"""Every policy of a set by name, with where it stands: what the linker looks things up in."""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeVar

from mesh.diagnostics import Diagnostic, Position, Severity
from mesh.documents.parser import Document
from mesh.documents.values import Path, Value
from mesh.documents.wording import Finding
from mesh.model.identity import DEFAULT_NAMESPACE, ServiceName
from mesh.model.policy import ExternalService, Kind, Policy, PolicyKey, Service, Target
from mesh.model.revision import Policies

P = TypeVar("P")

_LISTED = 10
_SHORTEST = 4
_WORD = re.compile(rb"[a-z0-9][-a-z0-9]*")
_DIGITS = re.compile(r"[0-9]+")


@dataclass(frozen=True, slots=True)
class Parsed:
    """A document without mistakes of its own: its policy, canonical JSON and digest."""

    policy: Policy
    canonical: bytes = field(repr=False)
    digest: str
    position: Position
    document: Document = field(repr=False, compare=False)

    @property
    def key(self) -> PolicyKey:
        """Kind, namespace and name."""
        return self.policy.key


@dataclass(frozen=True, slots=True)
class Placed:
    """A policy with its place; `document` is None for another source's, seen as context."""

    policy: Policy
    position: Position
    document: Document | None

    def place(self, path: Path) -> Position:
        """Where the value at `path` stands, as exactly as is known."""
        return self.document.place(path) if self.document is not None else self.position

    def report(self, finding: Finding) -> Iterator[Diagnostic]:
        """The finding as a diagnostic; nothing about another source's document."""
        if self.document is not None:
            yield finding.diagnostic(self.document)


class Index:
    """Looks up what a set of documents and the other sources' policies define.

    `broken` documents count as defined, and so does any name in an `unreadable` text and of a kind
    of which there is a document without a name (`nameless`; None: without a kind as well), so
    that one mistake is not told again at every reference.
    """

    def __init__(
        self,
        parsed: Iterable[Parsed],
        existing: Policies,
        broken: Collection[PolicyKey],
        unreadable: Collection[bytes],
        *,
        nameless: Collection[Value] = (),
        partial: bool,
    ) -> None:
        self._placed: dict[PolicyKey, Placed] = {
            key: Placed(applied.policy, applied.entry.position, None)
            for key, applied in existing.items()
        }
        for item in parsed:
            self._placed[item.key] = Placed(item.policy, item.position, item.document)
        self._by_class: dict[type, list[tuple[Policy, Placed]]] = {}
        for placed in sorted(self._placed.values(), key=_order):
            self._by_class.setdefault(type(placed.policy), []).append((placed.policy, placed))
        self._broken = frozenset(broken)
        self._nameless = [kind for kind in nameless if kind is None or isinstance(kind, str)]
        self._unreadable = {word for text in unreadable for word in _WORD.findall(text)}
        self._names: dict[tuple[str, str], list[str]] = {}
        self._namespaces: dict[tuple[str, str], list[str]] = {}
        self._variants: dict[tuple[str, str, str], str] = {}
        self._take_names({*self._placed, *self._broken})
        self._dangling = Severity.WARNING if partial else Severity.ERROR

    def of(self, kind: type[P]) -> Iterator[tuple[P, Placed]]:
        """The policies of one class with their places: other sources' first, then by key."""
        for policy, placed in self._by_class.get(kind, ()):
            if isinstance(policy, kind):
                yield policy, placed

    def destination(self, target: Target) -> Service | ExternalService | None:
        """The Service or ExternalService that `target` names; None if unknown or broken."""
        placed = self._placed.get(PolicyKey(target.kind, target.namespace, target.name))
        if placed is not None and isinstance(placed.policy, Service | ExternalService):
            return placed.policy
        return None

    def service(self, name: ServiceName) -> Service | ExternalService | None:
        """The Service, else the ExternalService of that name; None if unknown or broken."""
        found = self.destination(Target(Kind.SERVICE, name.namespace, name.name))
        external = Target(Kind.EXTERNAL_SERVICE, name.namespace, name.name)
        return found or self.destination(external)

    def is_defined(self, kind: str, name: ServiceName) -> bool:
        """Whether a document of that kind and name is there, or may be there broken."""
        key = PolicyKey(kind, name.namespace, name.name)
        if key in self._placed or key in self._broken or self._may_be_unreadable(name.name):
            return True
        return kind in self._nameless or None in self._nameless

    def is_broken(self, kind: str) -> bool:
        """Whether a document of that kind has mistakes."""
        return any(key.kind == kind for key in self._broken)

    def dangling(self, path: Path, code: str, subject: str, target: Target) -> Finding | None:
        """The finding about a reference whose target no document defines; None if one does."""
        if self.is_defined(target.kind, target.service):
            return None
        message = f'{subject} {target.kind} "{shown(target)}", which is not defined'
        return self.lacking(Finding(path, code, message, self._hint(target)))

    def lacking(self, finding: Finding) -> Finding:
        """The finding that something is not defined: a warning where the set is a part."""
        return replace(finding, severity=self._dangling)

    def names(self, kind: str, namespace: str) -> list[str]:
        """The names of a kind that are defined in a namespace, sorted."""
        return self._names.get((kind, namespace), [])

    def similar(self, kind: str, name: ServiceName) -> str:
        """A defined name that is one slip of the finger away; empty if there is none."""
        for variant in _variants(name.name):
            found = self._variants.get((kind, name.namespace, variant), "")
            # web-1 and web-2 are two names and no slip.
            if found and _DIGITS.sub("", found) != _DIGITS.sub("", name.name):
                return found
        return ""

    def _take_names(self, keys: Collection[PolicyKey]) -> None:
        for key in sorted(keys, key=lambda key: (key.kind, key.namespace, key.name)):
            self._names.setdefault((key.kind, key.namespace), []).append(key.name)
            self._namespaces.setdefault((key.kind, key.name), []).append(key.namespace)
            if key.kind == Kind.SERVICE:
                for variant in _variants(key.name):
                    self._variants.setdefault((key.kind, key.namespace, variant), key.name)

    def _hint(self, target: Target) -> str:
        name = target.service
        for kind in (Kind.SERVICE, Kind.EXTERNAL_SERVICE):
            if kind is not target.kind and self.is_defined(kind, name):
                return f'"{name.name}" is defined as {kind}'
        elsewhere = self._namespaces.get((target.kind, target.name))
        if elsewhere:
            return f'"{name.name}" is defined in namespace {", ".join(elsewhere[:_LISTED])}'
        names = self.names(target.kind, target.namespace)
        if not names:
            return f'no {target.kind} is defined in namespace "{target.namespace}"'
        listed = names[:_LISTED]
        near = self.similar(target.kind, name)
        if near and near not in listed:
            listed = [near, *listed[:-1]]
        more = f" and {len(names) - len(listed)} more" if len(names) > len(listed) else ""
        return f"defined here: {', '.join(listed)}{more}"

    def _may_be_unreadable(self, name: str) -> bool:
        return name.encode() in self._unreadable


def _variants(name: str) -> list[str]:
    """The name, and what is left of it without one of its characters.

    Two names that share a variant are one missing, extra, wrong or swapped character apart.
    """
    if len(name) < _SHORTEST:
        return []
    return [name, *(name[:at] + name[at + 1 :] for at in range(len(name)))]


def _order(placed: Placed) -> tuple[bool, str, str, str]:
    """Other sources' first, so that what contradicts them is told at ours."""
    key = placed.policy.key
    return placed.document is not None, key.kind, key.namespace, key.name


def shown(target: Target) -> str:
    """A target's name, with its namespace where that is not the default one."""
    if target.namespace == DEFAULT_NAMESPACE:
        return target.name
    return f"{target.namespace}/{target.name}"
