"""The README's tour, typed as it stands there, prints what the README says."""

import shutil

import pytest

from tests.support.doc_blocks import ROOT, blocks, differences
from tests.support.servers import free_ports

README = ROOT / "README.md"


@pytest.mark.skipif(shutil.which("curl") is None, reason="the tour needs curl; install it")
def test_the_tour_prints_what_the_readme_says() -> None:
    (port,) = free_ports(1)
    words = {
        "8080": str(port),
        "mesh sidecar ": "mesh sidecar --inbound 0.0.0.0:0 --outbound 127.0.0.1:0 ",
    }
    assert "\n\n".join(differences(blocks(README), words)) == ""


def test_the_first_screen_has_the_two_commands() -> None:
    (first, *_) = blocks(README, "")
    commands = [line.split("#")[0].strip() for line in first.text.splitlines()]
    assert commands[1:] == ["make demo", "make test"]
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"\n{command.split()[1]}: setup" in makefile for command in commands[1:])
