"""The words that several commands share, and the global ones."""

import re
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

import typer

from mesh.errors import UsageError

_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_SOURCE = re.compile(r"[A-Za-z0-9][-._/A-Za-z0-9]{0,62}")
_UNITS = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours"}


class Output(StrEnum):
    """How a command answers."""

    TEXT = "text"
    JSON = "json"


class PlanOutput(StrEnum):
    """How `plan` answers."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"


OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="The form of what is printed.")
]
Paths = Annotated[
    list[str],
    typer.Argument(metavar="PATH...", help="Files, folders, or - for standard input."),
]
Source = Annotated[str, typer.Option("--source", metavar="NAME", help="Whose documents these are.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the sidecars concerned.")]
Timeout = Annotated[
    str, typer.Option("--timeout", metavar="DURATION", help="How long to wait for them.")
]
RollbackOnReject = Annotated[
    bool,
    typer.Option("--rollback-on-reject", help="Bring the last revision back if one rejects this."),
]
AcceptRestore = Annotated[
    bool,
    typer.Option(
        "--accept-restore",
        help="The store is older than what sidecars run: what it lacks shall be lost.",
    ),
]
Message = Annotated[str, typer.Option("--message", "-m", metavar="TEXT", help="Why; kept.")]
Namespace = Annotated[str, typer.Option("--namespace", "-n", metavar="NS", help="The namespace.")]


def source_name(text: str) -> str:
    """The name of a source.

    Raises:
        UsageError: it is none.
    """
    if not _SOURCE.fullmatch(text):
        raise UsageError(
            f'--source: "{text}" is no name', "use letters, digits, -, _, . and /, at most 63"
        )
    return text


def duration(text: str, option: str) -> timedelta:
    """Parse `30s`, `1m30s`, `250ms`.

    Raises:
        UsageError: it is no duration, or zero.
    """
    found = _PART.findall(text)
    total = sum((timedelta(**{_UNITS[unit]: float(number)}) for number, unit in found), timedelta())
    if not found or "".join(number + unit for number, unit in found) != text or not total:
        raise UsageError(f'"{text}" is no duration for {option}', "write 30s, 1m30s or 250ms")
    return total
