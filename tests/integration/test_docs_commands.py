"""docs/commands.md has every command and flag, and what it shows is what the commands print."""

import re
import shutil

import pytest

from mesh.errors import MeshError
from tests.support.doc_blocks import ROOT, blocks, differences
from tests.support.doc_commands import Documented, commands, parts, rewritten
from tests.support.servers import free_ports

PAGE = ROOT / "docs" / "commands.md"
TEXT = PAGE.read_text()
MEND = "run: .venv/bin/python -m tests.support.doc_commands"


def exit_codes(error: type[MeshError] = MeshError) -> set[int]:
    return {error.exit_code}.union(*map(exit_codes, error.__subclasses__()))


@pytest.mark.parametrize("one", list(commands()), ids=lambda one: one.name)
def test_a_command_is_documented_with_its_flags_and_has_an_example(one: Documented) -> None:
    part = parts(TEXT).get(one.name, "")
    missing = [word for word in one.options if not re.search(f"`{word}[ `]", part)]
    assert part, MEND
    assert missing == [], MEND
    assert (one.command.epilog or "").startswith(f"Example: {one.name}")


def test_the_page_says_what_the_help_says() -> None:
    assert rewritten(TEXT) == TEXT, MEND


def test_every_exit_code_is_told() -> None:
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE)}
    assert exit_codes() | {0, 2, 130} == told


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page needs curl; install it")
def test_the_commands_print_what_the_page_says() -> None:
    (port,) = free_ports(1)
    words = {
        "8080": str(port),
        "mesh sidecar ": "mesh sidecar --inbound 0.0.0.0:0 --outbound 127.0.0.1:0 ",
    }
    assert "\n\n".join(differences(blocks(PAGE), words)) == ""
