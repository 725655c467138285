"""What is left of a document with mistakes, so that its other mistakes come in the same run.

A field that the schema of its kind refuses is taken out, and what remains is read as usual.
What was taken out must not be told again: a finding beside such a place, or above it, is dropped.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

from mesh.documents.parser import Document
from mesh.documents.values import Path, Value
from mesh.documents.wording import Finding

if TYPE_CHECKING:
    import jsonschema_rs

# Each round takes out what the one before uncovered: a field, then the item that lacks it.
_ROUNDS = 8
_MAX_ERRORS = 1000
# A document of a kind keeps its metadata and spec, though something may be missing in them.
_ROOTS: frozenset[Path] = frozenset({(), ("metadata",), ("spec",)})


@dataclass(frozen=True, slots=True)
class Remnant:
    """`data` is what is left of `document`; `removed` has the places of what is not.

    Places are those of the whole document, except where a method says otherwise.
    """

    document: Document
    data: dict[str, Value]
    removed: frozenset[Path] = frozenset()
    _kept: Mapping[Path, list[int]] = field(default_factory=dict)

    @property
    def has_its_name(self) -> bool:
        """Whether what the document calls itself, and names without a namespace, can be told."""
        return not any(path[:-1] in ((), ("metadata",)) for path in self.removed)

    def told(self, findings: Iterable[Finding]) -> Iterator[Finding]:
        """The findings in `data` that are true of the document, at their places in it."""
        for finding in findings:
            path = self._whole(finding.path)
            if not any(_touches(removed, path) for removed in self.removed):
                yield replace(finding, path=path)

    def _whole(self, path: Path) -> Path:
        """A place in `data` as a place in the document: items taken out count there."""
        whole: Path = ()
        for at, step in enumerate(path):
            kept = self._kept.get(path[:at])
            whole = (*whole, kept[step] if kept is not None and isinstance(step, int) else step)
        return whole


def salvage(document: Document, validator: "jsonschema_rs.Draft202012Validator") -> Remnant | None:
    """The document without what the schema refuses; None if nothing of use is left."""
    remnant = Remnant(document, document.data)
    for _ in range(_ROUNDS):
        errors = list(itertools.islice(validator.iter_errors(remnant.data), _MAX_ERRORS))
        found = {path for error in errors for path in _refused(error)}
        places = {remnant._whole(path) for path in found}
        if len(errors) == _MAX_ERRORS or ("spec",) in places or ("metadata",) in places:
            return None
        if not places:
            return remnant
        remnant = _without(document, remnant.removed | places)
    return None


def _refused(error: "jsonschema_rs.ValidationError") -> Iterator[Path]:
    """What has to go for an error to go with it."""
    path = cast("Path", tuple(error.instance_path))
    match error.kind.name:
        case "additionalProperties":
            unexpected = cast("list[str]", getattr(error.kind, "unexpected", ()))
            yield from ((*path, name) for name in unexpected)
        case "required" if path in _ROOTS:
            return
        case _:
            yield path


def _without(document: Document, removed: frozenset[Path]) -> Remnant:
    kept: dict[Path, list[int]] = {}

    def pruned(value: Value, whole: Path, here: Path) -> Value:
        if isinstance(value, dict):
            return {
                name: pruned(item, (*whole, name), (*here, name))
                for name, item in value.items()
                if (*whole, name) not in removed
            }
        if not isinstance(value, list):
            return value
        numbers = [at for at in range(len(value)) if (*whole, at) not in removed]
        kept[here] = numbers
        return [pruned(value[at], (*whole, at), (*here, new)) for new, at in enumerate(numbers)]

    return Remnant(document, cast("dict[str, Value]", pruned(document.data, (), ())), removed, kept)


def _touches(removed: Path, path: Path) -> bool:
    """Whether what stood at `removed` might have changed a finding at `path`."""
    holder = removed[:-1]
    return path[: len(holder)] == holder[: len(path)] and len(path) <= len(holder) + 1
