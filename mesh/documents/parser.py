"""YAML texts -> documents: bounds, encoding, splitting, places."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from mesh.diagnostics import Diagnostic, Position, Severity
from mesh.documents.composer import Problem, Spot, compose, locate
from mesh.documents.values import Path, Value
from mesh.model.identity import DEFAULT_NAMESPACE
from mesh.model.policy import PolicyKey

MAX_DOCUMENT_BYTES = 1024 * 1024
MAX_FILE_BYTES = 8 * 1024 * 1024
MAX_DOCUMENTS = 100_000
MAX_NAME = 253

# Refusals after which a value is not what was written.
_HOLES = frozenset({"aliases-refused", "bad-number", "key-not-text", "too-deep"})
_BOM = b"\xef\xbb\xbf"
# A marker at the start of a line ends a document whatever it stands in (YAML 1.2, section 9.1.2),
# so a broken document never hides the ones after it.
_MARKER = re.compile(rb"^(?:---|\.\.\.)(?=[ \t\n]|\Z)", re.MULTILINE)
_CONTENT = re.compile(rb"^(?![ \t]*(?:#|$)|%)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class SourceText:
    """A file's name, as diagnostics shall show it, and its bytes."""

    file: str
    data: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """One YAML document: `data` is its root mapping, `line` (from 1) where that starts.

    `is_sound` is False where the parser refused a part of it (what is left is still here, so
    that others may refer to it), and `is_whole` where values are missing for that. Places are
    found by reading `text` again, only when asked for.
    """

    file: str
    line: int
    data: dict[str, Value]
    text: bytes = field(repr=False)
    first_line: int
    is_sound: bool = True
    is_whole: bool = True
    _spots: dict[Path, Spot] = field(default_factory=dict, repr=False)

    @property
    def position(self) -> Position:
        """Where the document starts."""
        return Position(self.file, self.line)

    def place(self, path: Path) -> Position:
        """Where the value at `path` stands, else its nearest ancestor's."""
        spot = self._spot(path)
        return Position(self.file, self.first_line + spot.line, spot.column + 1)

    def key_place(self, path: Path) -> Position:
        """Where the key of the value at `path` stands (an item's own place in a list)."""
        spot = self._spot(path)
        return Position(self.file, self.first_line + spot.key_line, spot.key_column + 1)

    def raw(self, path: Path) -> str | None:
        """The scalar at `path` as written, without quotes; None if it is no scalar."""
        return self._spot(path).raw

    def key(self) -> PolicyKey | None:
        """Kind, namespace and name, as far as they can be told."""
        kind, metadata = self.data.get("kind"), self.data.get("metadata")
        if not isinstance(kind, str) or not isinstance(metadata, dict):
            return None
        name, namespace = metadata.get("name"), metadata.get("namespace", DEFAULT_NAMESPACE)
        if not isinstance(name, str) or not isinstance(namespace, str):
            return None
        if max(len(name), len(namespace), len(kind)) > MAX_NAME:
            return None
        return PolicyKey(kind, namespace, name)

    def _spot(self, path: Path) -> Spot:
        if not self._spots:
            self._spots.update(locate(self.text))
        while path not in self._spots and path:
            path = path[:-1]
        return self._spots.get(path, Spot(self.line - self.first_line, 0, 0, 0, None))


@dataclass(frozen=True, slots=True)
class ParseResult:
    """`documents` in the order of the texts. `unreadable` are texts that no document came of."""

    documents: tuple[Document, ...]
    diagnostics: tuple[Diagnostic, ...]
    unreadable: tuple[bytes, ...] = ()


def parse(sources: Sequence[SourceText]) -> ParseResult:
    """Split and read every text; each mistake is a diagnostic, nothing is raised.

    Bounds: 8 MiB a file, 1 MiB a document, 64 levels, 100,000 documents together. Empty texts
    and documents are none. A byte order mark is accepted.
    """
    documents: list[Document] = []
    diagnostics: list[Diagnostic] = []
    unreadable: list[bytes] = []
    count = 0
    for source in sources:
        refusal = _refused(source)
        if refusal:
            diagnostics.append(refusal)
            continue
        for first_line, text in _split(source.data.removeprefix(_BOM)):
            count += 1  # empty ones too: they take their time
            if count > MAX_DOCUMENTS:
                diagnostics.append(_too_many(Position(source.file, first_line)))
                return ParseResult(tuple(documents), tuple(diagnostics), tuple(unreadable))
            document, problems = _document(source.file, first_line, text)
            diagnostics += problems
            if document is not None:
                documents.append(document)
            elif problems:
                unreadable.append(text)
    return ParseResult(tuple(documents), tuple(diagnostics), tuple(unreadable))


def _too_many(position: Position) -> Diagnostic:
    message = f"more than {MAX_DOCUMENTS} documents in the set"
    return _error(position, "too-many-documents", message, "split the mesh, or use several sources")


def _refused(source: SourceText) -> Diagnostic | None:
    data, start = source.data, Position(source.file)
    if len(data) > MAX_FILE_BYTES:
        return _error(start, "file-too-large", f"{len(data)} bytes, at most {MAX_FILE_BYTES}",
                      "split the file")  # fmt: skip
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return _error(start, "not-utf8", "the file is UTF-16 or UTF-32", "save it as UTF-8")
    if (at := data.find(b"\0")) >= 0:
        return _error(_byte_position(source, at), "binary-file", "a NUL byte: this is no text",
                      "give YAML files only")  # fmt: skip
    try:
        data.decode()
    except UnicodeDecodeError as error:
        byte = f"0x{data[error.start]:02x}"
        return _error(_byte_position(source, error.start), "not-utf8", f"byte {byte} is not UTF-8",
                      "save the file as UTF-8")  # fmt: skip
    return None


def _byte_position(source: SourceText, at: int) -> Position:
    before = source.data[:at]
    column = len(before[before.rfind(b"\n") + 1 :].decode(errors="replace"))
    return Position(source.file, before.count(b"\n") + 1, column + 1)


def _split(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Each document's first line (from 1) and text; directives stay with what follows them."""
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    start, line = 0, 1
    for marker in _MARKER.finditer(data):
        is_empty = marker.start() <= start or not _CONTENT.search(data, start, marker.start())
        end = marker.start()
        if marker.group() == b"...":
            end = data.find(b"\n", end) + 1 or len(data)
        elif is_empty:
            continue
        if not is_empty:
            yield line, data[start:end]
        line += data.count(b"\n", start, end)
        start = end
    yield line, data[start:]


def _document(file: str, first_line: int, text: bytes) -> tuple[Document | None, list[Diagnostic]]:
    if len(text) > MAX_DOCUMENT_BYTES:
        message = f"a document of {len(text)} bytes, at most {MAX_DOCUMENT_BYTES}"
        position = Position(file, first_line)
        return None, [_error(position, "document-too-large", message, "split the document")]
    composed = compose(text)
    problems = [_diagnostic(file, first_line, problem) for problem in composed.problems]
    line = first_line + composed.line
    if composed.value is None or not composed.complete:
        return None, problems
    if not isinstance(composed.value, dict):
        position = Position(file, line)
        return None, [*problems, _error(position, "not-a-document", "a document is a mapping",
                                        "start with apiVersion, kind and metadata")]  # fmt: skip
    is_whole = not any(problem.code in _HOLES for problem in problems)
    document = Document(
        file, line, composed.value, text, first_line, is_sound=not problems, is_whole=is_whole
    )
    return document, problems


def _diagnostic(file: str, first_line: int, problem: Problem) -> Diagnostic:
    related: tuple[tuple[Position, str], ...] = ()
    if problem.first:
        line, column = problem.first
        related = ((Position(file, first_line + line, column + 1), problem.first_words),)
    position = Position(file, first_line + problem.line, problem.column + 1)
    return _error(position, problem.code, problem.message, problem.hint, related)


def _error(
    position: Position,
    code: str,
    message: str,
    hint: str = "",
    related: tuple[tuple[Position, str], ...] = (),
) -> Diagnostic:
    return Diagnostic(position, Severity.ERROR, code, message, hint, related)
