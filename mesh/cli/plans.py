"""A plan as text, JSON and Markdown, as a file, and as a question."""

import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import typer

from mesh.cli import console
from mesh.cli.console import BOLD, GREEN, JSON, RED, YELLOW, paint
from mesh.cli.options import PlanOutput
from mesh.cli.plan_markdown import markdown
from mesh.errors import InputError
from mesh.operations.plan import Prepared
from mesh.planning.plan import Act, Change, Plan
from mesh.planning.plan_file import write_plan

_MARKS = {Act.CREATE: ("+", GREEN), Act.UPDATE: ("~", YELLOW), Act.DELETE: ("-", RED)}
_LONGEST_VALUE = 80


def show_plan(prepared: Prepared, output: PlanOutput) -> None:
    """Print a plan."""
    match output:
        case PlanOutput.JSON:
            console.say_json(plan_json(prepared))
        case PlanOutput.MARKDOWN:
            console.say(markdown(prepared))
        case PlanOutput.TEXT:
            console.say("\n".join(_text(prepared)))


def ask_about(prepared: Prepared) -> None:
    """Show a plan on standard error and ask whether to apply it; aborts if not."""
    console.note("\n".join(_text(prepared)))
    if not typer.confirm("apply it?", err=True):
        raise InputError("not confirmed; nothing was written")


def write_file(path: Path, plan: Plan) -> None:
    """Write a plan file, whole or not at all; it may hold what only its owner shall read (0600).

    Raises:
        InputError: it cannot be written.
    """
    path = path.resolve()  # a link stays one
    if path.exists() and not path.is_file():
        raise InputError(f'the plan file "{path}" cannot be written: it is there and no file')
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(write_plan(plan))
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError(f'the plan file "{path}" cannot be written: {error.strerror}') from error


def plan_json(prepared: Prepared) -> JSON:
    """A plan as programs read it."""
    plan = prepared.plan
    impact: list[JSON] = [
        {"id": item.id, "service": item.service.name, "namespace": item.service.namespace}
        for item in prepared.impact
    ]
    return {
        "base": plan.base,
        "source": plan.source,
        "documents": plan.documents,
        "changes": changes_json(plan.changes),
        "impact": {"sidecars": impact, "live": prepared.live},
        "diagnostics": [console.diagnostic_json(item) for item in prepared.diagnostics],
    }


def changes_json(changes: Iterable[Change]) -> list[JSON]:
    """Changes as programs read them; `before` and `after` are JSON text, null is "not there"."""
    return [
        {
            "action": change.act.value,
            "kind": change.key.kind,
            "namespace": change.key.namespace,
            "name": change.key.name,
            "file": change.entry.file,
            "line": change.entry.line,
            "fields": [
                {"path": item.path, "before": item.before, "after": item.after}
                for item in change.fields
            ],
        }
        for change in changes
    ]


def changes_text(changes: Iterable[Change]) -> Iterator[str]:
    """Changes as people read them, field by field."""
    listed = list(changes)
    width = max((len(str(change.key)) for change in listed), default=0)
    for change in listed:
        mark, style = _MARKS[change.act]
        place = f"{change.entry.file}:{change.entry.line}"
        act = paint(f"{mark} {change.act.value}", style)
        yield f"{act}  {str(change.key).ljust(width)}  {place}"
        for item in change.fields:
            yield f"      {item.path}: {_short(item.before)} -> {_short(item.after)}"


def counts(plan: Plan) -> str:
    """How much changes."""
    found = [f"{plan.count(act)} to {act.value}" for act in Act if plan.count(act)]
    return ", ".join(found)


def _text(prepared: Prepared) -> Iterator[str]:
    plan = prepared.plan
    yield from (console.diagnostic_text(item, sys.stderr) for item in prepared.diagnostics)
    if not plan.changes:
        yield f"nothing to change: revision {plan.base} has what the documents say"
        return
    what = f'source "{plan.source}"' if plan.source else "the whole mesh"
    yield paint(f"plan at revision {plan.base} for {what}: {counts(plan)}", BOLD)
    yield from changes_text(plan.changes)
    names = ", ".join(item.id for item in prepared.impact) or "none"
    yield f"{_touched(prepared)}: {names}"


def _touched(prepared: Prepared) -> str:
    live = console.plural(prepared.live, "live sidecar")
    return f"touches {len(prepared.impact)} of {live}"


def _short(value: str | None) -> str:
    if value is None:
        return "(none)"
    return value if len(value) <= _LONGEST_VALUE else value[: _LONGEST_VALUE - 3] + "..."
