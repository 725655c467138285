"""A user's mistake, at its place, with what to do about it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Position(NamedTuple):
    """A place in a file: `line` and `column` count from 1, columns in characters."""

    file: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class Severity(StrEnum):
    """An error refuses the whole set; a warning is shown and allowed."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, order=True)
class Diagnostic:
    """One mistake: `position: severity[code]: message` and `hint: what to do`.

    `code` is stable, kebab-case and documented in docs/errors.md. `related` are further places,
    each with what it shows ("first defined here").
    """

    position: Position
    severity: Severity
    code: str
    message: str
    hint: str = ""
    related: tuple[tuple[Position, str], ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.position}: {self.severity}[{self.code}]: {self.message}"]
        lines += [f"  {position}: {text}" for position, text in self.related]
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)
