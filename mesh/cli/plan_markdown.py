"""A plan as a comment on a merge request: bounded, and unbroken by what documents contain."""

from collections.abc import Iterable, Iterator

from mesh.cli import console
from mesh.diagnostics import Diagnostic
from mesh.operations.plan import Prepared
from mesh.planning.fields import FieldChange
from mesh.planning.plan import Act, Change

# GitHub takes 65,536 characters in a comment, GitLab a million.
MOST_CHARACTERS = 60_000
MARK = "<!-- mesh plan -->"
_LONGEST_VALUE = 80
_MOST_FIELDS = 10
_MOST_NAMES = 20


def markdown(prepared: Prepared) -> str:
    """The comment; `MARK` is its first line, so that a script finds its own comment again."""
    plan = prepared.plan
    whose = f'source "{plan.source}"' if plan.source else "the whole mesh"
    lines = [MARK, f"### mesh plan for {whose} at revision {plan.base}", ""]
    if plan.changes:
        counts = ", ".join(f"{plan.count(act)} to {act}" for act in Act if plan.count(act))
        lines += [f"**{counts}**. {_touched(prepared)}", ""]
        lines += ["| | document | place | fields |", "|---|---|---|---|"]
        lines += _bounded([_row(change) for change in plan.changes], "changes")
    else:
        lines.append(
            f"**Nothing to change**: the mesh has what the {plan.documents} documents say."
        )
    if prepared.diagnostics:
        lines += ["", "**Warnings**", ""]
        lines += _bounded([_warning(item) for item in prepared.diagnostics], "warnings")
    return "\n".join(lines)


def _bounded(lines: Iterable[str], what: str) -> Iterator[str]:
    """As many lines as fit into half of a comment, and how many more there are."""
    listed = list(lines)
    room = MOST_CHARACTERS // 2
    for number, line in enumerate(listed):
        room -= len(line) + 1
        if room < 0:
            yield ""
            yield f"... and {len(listed) - number} more {what}"
            return
        yield line


def _row(change: Change) -> str:
    place = code(f"{change.entry.file}:{change.entry.line}")
    fields = [_field(item) for item in change.fields[:_MOST_FIELDS]]
    if len(change.fields) > _MOST_FIELDS:
        fields.append(f"... and {len(change.fields) - _MOST_FIELDS} more")
    return f"| {change.act} | {change.key} | {place} | {'<br>'.join(fields)} |"


def _field(item: FieldChange) -> str:
    return f"{code(item.path)}: {_value(item.before)} → {_value(item.after)}"


def _value(value: str | None) -> str:
    if value is None:
        return "(none)"
    short = value if len(value) <= _LONGEST_VALUE else value[: _LONGEST_VALUE - 3] + "..."
    return code(short)


def code(text: str) -> str:
    """Text as code inside a table's cell: no backtick, bar or line break ends it."""
    quiet = text.replace("\n", " ").replace("\r", " ").replace("|", "\\|")
    longest = max((len(run) for run in _runs(quiet)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if quiet.startswith("`") or quiet.endswith("`") else ""
    return f"{fence}{pad}{quiet}{pad}{fence}"


def _runs(text: str) -> Iterator[str]:
    """The runs of backticks in a text."""
    run = ""
    for char in text + " ":
        if char == "`":
            run += char
        elif run:
            yield run
            run = ""


def _warning(item: Diagnostic) -> str:
    return f"- {code(str(item.position))} {item.message}" + (f" ({item.hint})" if item.hint else "")


def _touched(prepared: Prepared) -> str:
    names = [item.id for item in prepared.impact]
    if not prepared.live:
        return "No sidecar runs."
    live = console.plural(prepared.live, "live sidecar")
    if not names:
        return f"It touches none of {live}."
    shown = ", ".join(code(name) for name in names[:_MOST_NAMES])
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"It touches {len(names)} of {live}: {shown}{more}."
