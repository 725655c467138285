"""What the terminal sees: colours where they are welcome, tables, JSON, diagnostics, errors."""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TextIO

from mesh.diagnostics import Diagnostic, Severity
from mesh.errors import InvalidDocuments, MeshError, OutsideError

JSON = None | bool | int | float | str | list["JSON"] | dict[str, "JSON"]

RED, GREEN, YELLOW, BOLD, DIM = "31", "32", "33", "1", "2"


@contextmanager
def working(text: str) -> Iterator[None]:
    """Say on a terminal what takes its time, and take it back when it is done."""
    if not sys.stderr.isatty():
        yield
        return
    sys.stderr.write(f"{text} ...")
    sys.stderr.flush()
    try:
        yield
    finally:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


def paint(text: str, style: str, stream: TextIO | None = None) -> str:
    """The text in a colour or weight, where the stream is a terminal and `NO_COLOR` is unset."""
    stream = stream or sys.stdout
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty():
        return text
    return f"\x1b[{style}m{text}\x1b[0m"


class OutputLost(OutsideError):
    """Standard output cannot be written. That its reader has left is no error: BrokenPipeError."""


def write(text: str) -> None:
    """Text on standard output.

    Raises:
        OutputLost: it cannot be written.
    """
    with _losing():
        sys.stdout.write(text)


def flush() -> None:
    """Let a reader see what was written; raises what `write` raises."""
    with _losing():
        sys.stdout.flush()


@contextmanager
def _losing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputLost(
            f"standard output cannot be written: {error.strerror or error}",
            hint="what the command did stays done: `mesh status` and `mesh history` show it",
        ) from error


def say(text: str = "") -> None:
    """A line on standard output."""
    write(text + "\n")


def say_now(text: str = "") -> None:
    """A line on standard output that a reader behind a pipe sees at once."""
    say(text)
    flush()


def note(text: str) -> None:
    """A line on standard error; where that cannot be written nobody is left to be told."""
    with suppress(OSError):
        sys.stderr.write(text + "\n")


def say_json(value: JSON) -> None:
    """A value on standard output as JSON."""
    say(json.dumps(value, indent=2, ensure_ascii=False))


def table(rows: Iterable[Sequence[str]]) -> str:
    """Rows in columns; the first row is the head."""
    lines = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def diagnostic_text(item: Diagnostic, stream: TextIO | None = None) -> str:
    """A mistake as a person reads it."""
    style = RED if item.severity is Severity.ERROR else YELLOW
    mark = f"{item.severity}[{item.code}]"
    return str(item).replace(mark, paint(mark, style, stream), 1)


def diagnostic_json(item: Diagnostic) -> JSON:
    """A mistake as a program reads it."""
    return {
        "file": item.position.file,
        "line": item.position.line,
        "column": item.position.column,
        "severity": item.severity.value,
        "code": item.code,
        "message": item.message,
        "hint": item.hint,
        "related": [
            {"file": place.file, "line": place.line, "column": place.column, "message": text}
            for place, text in item.related
        ],
    }


def mistakes(diagnostics: Sequence[Diagnostic], documents: int) -> str:
    """How many there are of each severity, in how many documents."""
    counts = []
    for severity in Severity:
        if found := sum(item.severity is severity for item in diagnostics):
            counts.append(plural(found, severity.value))
    return f"{' and '.join(counts) or 'no mistakes'} in {plural(documents, 'document')}"


def plural(count: int, noun: str) -> str:
    """`1 document`, `2 documents`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def tell_error(error: MeshError, *, as_json: bool) -> None:
    """Show an error: as JSON on standard output, else on standard error."""
    diagnostics = error.diagnostics if isinstance(error, InvalidDocuments) else ()
    message = error.message
    if isinstance(error, InvalidDocuments):
        message = f"{mistakes(diagnostics, error.documents)}; nothing was written"
    if as_json:
        shape = {"code": error.code, "message": message, "hint": error.hint}
        value: dict[str, JSON] = {"error": dict(shape)}
        if diagnostics:
            value["diagnostics"] = [diagnostic_json(item) for item in diagnostics]
        say_json(value)
        return
    for item in diagnostics:
        note(diagnostic_text(item, sys.stderr))
    mark = "" if diagnostics else paint(f"error[{error.code}]", RED, sys.stderr) + ": "
    note(mark + message)
    if error.hint:
        note(f"  hint: {error.hint}")
