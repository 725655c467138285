"""What a set of documents would do to the mesh, as a value bound to the revision it was made at."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from mesh.diagnostics import Diagnostic, Position, Severity
from mesh.errors import InvalidDocuments
from mesh.model.policy import PolicyKey, Target
from mesh.model.revision import Manifest, ManifestEntry
from mesh.planning.fields import FieldChange, field_changes


class Act(StrEnum):
    """What happens to a document."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """A document that shall be in the mesh; `canonical` is its canonical JSON, `digest` that's
    SHA-256. The rest is as in `ManifestEntry`.
    """

    key: PolicyKey
    digest: str
    file: str
    line: int
    targets: tuple[Target, ...] = ()
    uses: tuple[Target, ...] = ()
    admits: tuple[Target, ...] = ()
    canonical: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One document created (`before` is None), updated, or deleted (`after` is None)."""

    before: ManifestEntry | None
    after: ManifestEntry | None
    fields: tuple[FieldChange, ...] = ()

    @property
    def act(self) -> Act:
        """What happens."""
        if self.before is None:
            return Act.CREATE
        return Act.DELETE if self.after is None else Act.UPDATE

    @property
    def entry(self) -> ManifestEntry:
        """The newest side that exists: where the document is, or was."""
        entry = self.after or self.before
        if entry is None:
            raise ValueError("a change has a side")
        return entry

    @property
    def key(self) -> PolicyKey:
        """Which document."""
        return self.entry.key


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Changes at a base revision. `base_change` is the base's own change id: a revision of
    another store has another. `source` is None for the whole mesh (a rollback). `moved` are
    entries whose place or references alone differ: they ride along and are no change.
    `objects` is what the changes need that the store may lack. `documents` is the size of the
    set that was planned. `restores` is the revision that a rollback brings back.
    """

    base: int
    base_change: str
    source: str | None
    changes: tuple[Change, ...] = ()
    moved: tuple[ManifestEntry, ...] = ()
    objects: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    documents: int = 0
    commit: str | None = None
    restores: int | None = None

    def count(self, act: Act) -> int:
        """How many changes are of that sort."""
        return sum(change.act is act for change in self.changes)

    @property
    def keys(self) -> frozenset[PolicyKey]:
        """The documents that change."""
        return frozenset(change.key for change in self.changes)


def diff(
    current: Manifest, desired: Mapping[PolicyKey, Desired], *, base: int, change: str, source: str
) -> Plan:
    """What makes `source` own exactly `desired`, given the manifest of revision `base`.

    Equality is the digest alone. Field changes are left to `detail`.

    Raises:
        InvalidDocuments: documents of another source are in `desired`; each is told.
    """
    _refuse_foreign(current, desired, source)
    changes: list[Change] = []
    moved: list[ManifestEntry] = []
    objects: dict[str, bytes] = {}
    for key in sorted(desired):
        want, before = desired[key], current.get(key)
        after = _entry(want, source, before.introduced if before else base + 1)
        if before is None or before.digest != after.digest:
            changes.append(Change(before=before, after=after))
            objects[want.digest] = want.canonical
        elif before != after:
            moved.append(after)
    for key in sorted(current):
        if current[key].source == source and key not in desired:
            changes.append(Change(before=current[key], after=None))
    return Plan(
        base=base,
        base_change=change,
        source=source,
        changes=_ordered(changes),
        moved=tuple(moved),
        objects=objects,
        documents=len(desired),
    )


def restore(
    current: Manifest, past: Manifest, *, base: int, change: str, source: str | None
) -> Plan:
    """What brings back `past`, of one source or the whole mesh, with its ages and places.

    Raises:
        InvalidDocuments: a document of `source` in `past` belongs to another source today.
    """
    wanted = {key: entry for key, entry in past.items() if source in (None, entry.source)}
    if source is not None:
        _refuse_foreign(current, wanted, source)
    changes: list[Change] = []
    moved: list[ManifestEntry] = []
    for key in sorted(current.keys() | wanted.keys()):
        before, after = current.get(key), wanted.get(key)
        if after is None and before is not None and source not in (None, before.source):
            continue
        if before is None or after is None or _matters(before, after):
            changes.append(Change(before=before, after=after))
        elif before != after:
            moved.append(after)
    return Plan(
        base=base,
        base_change=change,
        source=source,
        changes=_ordered(changes),
        moved=tuple(moved),
        documents=len(wanted),
    )


def between(before: Manifest, after: Manifest) -> tuple[Change, ...]:
    """The changes from one manifest to another."""
    return restore(before, after, base=0, change="", source=None).changes


def detail(changes: tuple[Change, ...], objects: Mapping[str, bytes]) -> tuple[Change, ...]:
    """The changes with their fields, where `objects` (by digest) has both sides."""
    return tuple(replace(change, fields=_fields(change, objects)) for change in changes)


def carry_out(current: Manifest, plan: Plan) -> Manifest:
    """The manifest after the plan; `current` is that of its base."""
    manifest = dict(current)
    for change in plan.changes:
        if change.after is None:
            manifest.pop(change.key, None)
        else:
            manifest[change.key] = change.after
    for entry in plan.moved:
        manifest[entry.key] = entry
    return manifest


def _matters(before: ManifestEntry, after: ManifestEntry) -> bool:
    """Whether two entries of a document differ in more than their place: of two equal matches the
    older document's wins.
    """
    return (before.digest, before.introduced) != (after.digest, after.introduced)


def _fields(change: Change, objects: Mapping[str, bytes]) -> tuple[FieldChange, ...]:
    if change.before is None or change.after is None:
        return ()
    ages = (str(change.before.introduced), str(change.after.introduced))
    aged = (FieldChange("since revision", *ages),) if ages[0] != ages[1] else ()
    before, after = objects.get(change.before.digest), objects.get(change.after.digest)
    if before is None or after is None:
        return aged
    return (*aged, *field_changes(before, after))


def _ordered(changes: list[Change]) -> tuple[Change, ...]:
    order = list(Act)
    return tuple(sorted(changes, key=lambda change: (order.index(change.act), change.key)))


def _entry(want: Desired, source: str, introduced: int) -> ManifestEntry:
    return ManifestEntry(
        key=want.key,
        digest=want.digest,
        source=source,
        file=want.file,
        line=want.line,
        introduced=introduced,
        targets=want.targets,
        uses=want.uses,
        admits=want.admits,
    )


def _refuse_foreign(
    current: Manifest, wanted: Mapping[PolicyKey, Desired] | Manifest, source: str
) -> None:
    found = list(_foreign(current, wanted, source))
    if found:
        raise InvalidDocuments(found, len(wanted))


def _foreign(
    current: Manifest, wanted: Mapping[PolicyKey, Desired] | Manifest, source: str
) -> Iterator[Diagnostic]:
    for key in sorted(wanted):
        owned = current.get(key)
        if owned is not None and owned.source != source:
            want = wanted[key]
            yield Diagnostic(
                position=Position(want.file, want.line),
                severity=Severity.ERROR,
                code="owned-elsewhere",
                message=f'{key} belongs to the source "{owned.source}"; this is "{source}"',
                hint=f"change it there, or delete it there first (--source {owned.source})",
                related=((owned.position, f'applied from here by "{owned.source}"'),),
            )
