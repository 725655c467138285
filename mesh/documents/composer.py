"""One YAML 1.2 document as plain values, with every refusal at its place.

libyaml's events are composed here instead of by a loader: the event parser keeps its state on
the heap, so a file of 30,000 open brackets is refused at level 65 (a recursive C composer dies
of it), aliases are refused before anything expands, and each event knows its place.
"""

import math
import re
from dataclasses import dataclass
from typing import Protocol

from ruamel.yaml.cyaml import CParser  # type: ignore[attr-defined]  # re-exported, not listed
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from mesh.documents.values import Path, Value

MAX_DEPTH = 64
MAX_DIGITS = 18
MAX_PROBLEMS = 1000

_SHOWN = 60
# Where a node goes that nothing will ask for: no key holds a NUL.
_NOWHERE = "\0"

_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("null", "Null", "NULL", "~"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NOT_TEXT_START = frozenset("0123456789+-.~nNtTfF")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")

_HINTS = {
    "mapping values are not allowed in this context": 'a value that contains ": " needs quotes; '
    "else check the indentation of this line and the one before",
    "found character that cannot start any token": "indent with spaces, not tabs, and quote a "
    "value that starts with @, ` or %",
    "did not find expected ',' or ']'": 'separate items with "," and close "["',
    "did not find expected ',' or '}'": 'separate fields with "," and close "{"',
    "did not find expected node content": "a value is missing here, or a bracket is not closed",
    "did not find expected key": "check the indentation of this line and the one before",
    "found unexpected end of stream": "a quote or bracket is opened and never closed",
    "found incompatible YAML document": "write %YAML 1.2, or leave the directive out",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """A refusal at a 0-based line and column of the text, perhaps with an earlier place."""

    line: int
    column: int
    code: str
    message: str
    hint: str = ""
    first: tuple[int, int] | None = None
    first_words: str = "first written here"


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a node stands (0-based), its key if it is a mapping's value, its text if a scalar."""

    line: int
    column: int
    key_line: int
    key_column: int
    raw: str | None


@dataclass(frozen=True, slots=True)
class Composed:
    """What a text holds: `value` is None where there is no document or an empty one.

    `complete` is False where the text could not be read to its end. `line` is 0-based, of the
    root node.
    """

    value: Value
    problems: tuple[Problem, ...]
    complete: bool
    line: int = 0


class _Mark(Protocol):
    line: int
    column: int


class _StopError(Exception):
    """The rest of the document cannot be read; its problem is noted already."""


def compose(text: bytes) -> Composed:
    """Read the one document in `text` (UTF-8, no BOM); never raises."""
    composer = _Composer(text, None)
    value, complete = composer.document()
    return Composed(value, tuple(composer.problems), complete, composer.root_line)


def locate(text: bytes) -> dict[Path, Spot]:
    """Where every node of the document stands; as far as the text can be read."""
    spots: dict[Path, Spot] = {}
    _Composer(text, spots).document()
    return spots


class _Composer:
    """Turns events into values; `spots` is filled only where places are asked for."""

    def __init__(self, text: bytes, spots: dict[Path, Spot] | None) -> None:
        self._next = CParser(text).get_event
        self._spots = spots
        self.problems: list[Problem] = []
        self.root_line = 0

    def document(self) -> tuple[Value, bool]:
        value: Value = None
        try:
            self._next()  # the start of the stream
            if isinstance(self._next(), StreamEndEvent):
                return None, True
            event = self._next()
            self.root_line = event.start_mark.line
            value = self._node(event, (), 1, event.start_mark)
            self._next()  # the end of the document
            if not isinstance(event := self._next(), StreamEndEvent):
                self._note(event.start_mark, "yaml-syntax", "a second document starts here",
                           'put "---" on a line of its own between documents')  # fmt: skip
                return value, False
        except YAMLError as error:
            self._syntax(error)
            return value, False
        except _StopError:
            return value, False
        return value, True

    def _node(self, event: object, path: Path, depth: int, key: _Mark) -> Value:
        if isinstance(event, ScalarEvent):
            if event.anchor is not None or event.tag is not None:
                self._decorated(event)
            value: Value = event.value
            if event.implicit[0] and not event.style:
                value = self._plain(event.value, event.start_mark)
            raw: str | None = event.value
        elif isinstance(event, MappingStartEvent | SequenceStartEvent):
            if event.anchor is not None or event.tag is not None:
                self._decorated(event)
            if depth > MAX_DEPTH:
                self._note(event.start_mark, "too-deep", f"more than {MAX_DEPTH} levels of nesting")
                raise _StopError
            mapping = isinstance(event, MappingStartEvent)
            value = self._mapping(path, depth) if mapping else self._sequence(path, depth)
            raw = None
        else:
            assert isinstance(event, AliasEvent)  # noqa: S101 - libyaml has no other node event
            self._note(event.start_mark, "aliases-refused", f'alias "*{event.anchor}" is not read',
                       "write the value out; documents are read one by one")  # fmt: skip
            return None
        if self._spots is not None:
            mark = event.start_mark
            self._spots[path] = Spot(mark.line, mark.column, key.line, key.column, raw)
        return value

    def _mapping(self, path: Path, depth: int) -> dict[str, Value]:
        result: dict[str, Value] = {}
        seen: dict[str, _Mark] = {}
        following = self._next
        while not isinstance(event := following(), MappingEndEvent):
            mark = event.start_mark
            key = self._key(event)
            below = path if self._spots is None else (*path, key)
            if key in seen:
                first = (seen[key].line, seen[key].column)
                message = f'"{key[:_SHOWN]}" is written twice'
                self._add(Problem(mark.line, mark.column, "duplicate-key", message,
                                  "keep one of the two", first))  # fmt: skip
                self._node(following(), (*path, _NOWHERE), depth + 1, mark)
                continue
            seen[key] = mark
            result[key] = self._node(following(), below, depth + 1, mark)
        return result

    def _key(self, event: object) -> str:
        if isinstance(event, ScalarEvent):
            if event.anchor is not None or event.tag is not None:
                self._decorated(event)
            name: str = event.value
            plain = event.implicit[0] and not event.style
            if not plain or isinstance(self._plain(name, event.start_mark), str):
                return name
            shown = name[:_SHOWN]
            self._note(event.start_mark, "key-not-text", f"the key {shown or 'null'} is not text",
                       f'quote it: "{shown}"')  # fmt: skip
            return name
        mark = event.start_mark  # type: ignore[attr-defined]  # every event has one
        self._note(mark, "key-not-text", "a key must be text, not a list, mapping or alias")
        raise _StopError

    def _sequence(self, path: Path, depth: int) -> list[Value]:
        result: list[Value] = []
        following = self._next
        while not isinstance(event := following(), SequenceEndEvent):
            below = path if self._spots is None else (*path, len(result))
            result.append(self._node(event, below, depth + 1, event.start_mark))
        return result

    def _plain(self, text: str, mark: _Mark) -> Value:
        """The YAML 1.2 core schema (section 10.3.2): `no` and `2026-01-01` are text."""
        if not text or text in _WORDS:
            return _WORDS.get(text)
        if text[0] not in _NOT_TEXT_START:
            return text
        if _INT.fullmatch(text):
            if len(text) > MAX_DIGITS:
                self._note(mark, "bad-number", f"{text[:24]} has more than {MAX_DIGITS} digits")
                return 0
            return int(text, 0 if text[1:2] in ("o", "x") else 10)
        if _FLOAT.fullmatch(text) or _NOT_FINITE.fullmatch(text):
            return self._float(text, mark)
        return text

    def _float(self, text: str, mark: _Mark) -> int | float:
        number = math.inf if _NOT_FINITE.fullmatch(text) else float(text)
        if not math.isfinite(number):
            self._note(mark, "bad-number", f"{text[:24]} is not a finite number",
                       f'quote it if text is meant: "{text[:24]}"')  # fmt: skip
            return 0
        # 1.0 and 1 are one number (RFC 8259 section 6), so that they have one canonical form.
        return int(number) if number.is_integer() and abs(number) < 2**53 else number

    def _decorated(self, event: ScalarEvent | MappingStartEvent | SequenceStartEvent) -> None:
        if event.anchor is not None:
            self._note(event.start_mark, "anchors-refused", f'anchor "&{event.anchor}" is not read',
                       "remove it; documents have no aliases")  # fmt: skip
        if event.tag is not None:
            self._note(event.start_mark, "tags-refused", f'tag "{event.tag}" is not read',
                       "remove it; quote a value that must be text")  # fmt: skip

    def _note(self, mark: _Mark, code: str, message: str, hint: str = "") -> None:
        self._add(Problem(mark.line, mark.column, code, message, hint))

    def _add(self, problem: Problem) -> None:
        self.problems.append(problem)
        if len(self.problems) >= MAX_PROBLEMS:
            raise _StopError

    def _syntax(self, error: YAMLError) -> None:
        if not isinstance(error, MarkedYAMLError):
            text = " ".join(str(error).split("\n")[0].split())
            self.problems.append(Problem(0, 0, "yaml-syntax", f"not YAML: {text}"))
            return
        mark, opened = error.problem_mark or error.context_mark, error.context_mark
        if opened is not None and "end of stream" in (error.problem or ""):
            mark = opened  # where it was opened says more than where the text ends
        here = (mark.line, mark.column) if mark is not None else (0, 0)
        first = (opened.line, opened.column) if opened is not None else None
        self.problems.append(
            Problem(here[0], here[1], "yaml-syntax", f"not YAML: {error.problem}",
                    _HINTS.get(error.problem or "", ""), first if first != here else None,
                    error.context or ""))  # fmt: skip
