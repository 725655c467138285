"""The reference of the commands: what `mesh COMMAND --help` says, kept in docs/commands.md.

Between `<!-- help: mesh apply -->` and `<!-- end -->` stands what this module makes of the command
line itself; the rest of a section is written by hand.

    python -m tests.support.doc_commands      rewrites those parts, and adds commands that lack one
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import typer

from mesh.cli.app import app
from tests.support.doc_blocks import ROOT

PAGE: Final = ROOT / "docs" / "commands.md"
_END: Final = "<!-- end -->"
_PART = re.compile(rf"^<!-- help: (mesh[a-z -]*) -->\n.*?^{_END}$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Documented:
    """A command that can be run, under its whole name; `command` is Typer's own object."""

    name: str
    command: Any

    @property
    def options(self) -> list[str]:
        """Every word that begins with a hyphen, long ones only where there are both."""
        return [
            max(words, key=len)
            for parameter in self.command.params
            if parameter.param_type_name == "option"
            for words in (parameter.opts, parameter.secondary_opts)
            if words
        ]

    def reference(self) -> str:
        """What stands between the marks."""
        parts = [f"<!-- help: {self.name} -->", "", f"`{self.usage()}`", "", self._text()]
        if rows := [_row(parameter) for parameter in self.command.params]:
            parts += ["", "| | |", "|---|---|", *rows]
        return "\n".join([*parts, "", _END])

    def usage(self) -> str:
        """The command line in one line."""
        words = [parameter for parameter in self.command.params if _is_argument(parameter)]
        named = [item.metavar if item.required else f"[{item.metavar}]" for item in words]
        return " ".join([self.name, *named])

    def _text(self) -> str:
        paragraphs = (self.command.help or "").split("\n\n")
        return "\n\n".join(" ".join(text.split()) for text in paragraphs)


def commands(command: Any = None, name: str = "mesh") -> Iterator[Documented]:
    """Every command, in the order of `--help`; the first is `mesh` itself."""
    command = command or typer.main.get_command(app)
    below = getattr(command, "commands", {})
    if not below or name == "mesh":
        yield Documented(name, command)
    for word, one in below.items():
        yield from commands(one, f"{name} {word}")


def parts(text: str) -> dict[str, str]:
    """The made parts of the page, by command."""
    return {found[1]: found[0] for found in _PART.finditer(text)}


def rewritten(text: str) -> str:
    """The page as it should be."""
    known = {one.name: one.reference() for one in commands()}
    text = _PART.sub(lambda found: known.get(found[1], ""), text)
    for name, reference in known.items():
        if reference not in text:
            text = f"{text.rstrip()}\n\n## {name}\n\n{reference}\n"
    return text


def _is_argument(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "argument")


def _row(parameter: Any) -> str:
    if _is_argument(parameter):
        return f"| `{parameter.metavar}` | {parameter.help} |"
    words = [*sorted(parameter.opts, key=len), *parameter.secondary_opts]
    value = "" if parameter.is_flag else f" {parameter.metavar or 'FORM'}"
    named = ", ".join(f"`{word}{value}`" for word in words).replace("|", "\\|")
    default = parameter.default
    if isinstance(default, Enum):
        default = default.value
    notes = ""
    if parameter.required:
        notes = " Required."
    elif default not in (None, "", False) and not parameter.is_flag:
        notes = f" Default: `{default}`."
    return f"| {named} | {parameter.help}{notes} |"


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
