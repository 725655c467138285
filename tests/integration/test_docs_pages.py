"""What pages say about one another, about the code's shape and about shells is true."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.doc_blocks import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_LINK = re.compile(r"\[[^]\[]*\]\(([^)\s]+)\)")
_FENCED = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_TREE = re.compile(r"^[├└]── (.*?)\[(\d+)\]", re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """What GitHub makes of headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    words = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {word.replace(" ", "-") for word in words}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_pages_links_lead_somewhere(page: Path) -> None:
    links = _LINK.findall(_FENCED.sub("", page.read_text()))
    broken = []
    for link in links:
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        if "://" not in link and not (
            target.exists() and (not anchor or anchor in anchors(target))
        ):
            broken.append(link)
    assert broken == []


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / link).resolve() for link in _LINK.findall(index.read_text())}
    pages = {page for page in PAGES if page.parent in (index.parent, index.parent / "reference")}
    assert {page.name for page in pages - linked - {index}} == set()


def test_the_floors_of_the_architecture_are_those_that_are_enforced() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    told = {
        name.strip("/").removesuffix(".py"): int(floor)
        for names, floor in _TREE.findall(text)
        for name in names.split()
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = project["tool"]["importlinter"]["contracts"]
    layers = next(one["layers"] for one in contracts if one["type"] == "layers")
    enforced = {
        name.strip(): floor
        for floor, layer in enumerate(reversed(layers), 1)
        for name in layer.split("|")
    }
    assert told == enforced


def test_modules_that_the_architecture_names_exist() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    packages = (
        "documents|planning|compiler|ca|xds|metrics|operations|sidecar|authority|sync|adapters"
    )
    named = set(re.findall(rf"\b({packages})\.([a-z_]+)\b", text))
    named |= set(re.findall(r"`([a-z]+)/([a-z_]+)\.py`", text))
    assert named
    missing = [
        f"{package}.{module}"
        for package, module in sorted(named)
        if not (ROOT / "mesh" / package / f"{module}.py").is_file()
        and not (ROOT / "mesh" / package / module).is_dir()
    ]
    assert missing == []


def test_every_reason_of_a_sidecar_is_told() -> None:
    given = {
        reason
        for file in (ROOT / "tests" / "golden").glob("*/*.json")
        for reason in re.findall(
            r'"key": "x-mesh-reason",\s+"value": "([a-z-]+)"', file.read_text()
        )
    }
    rows = re.findall(r"^\| \w+ (.*?) \|", (ROOT / "docs/operations.md").read_text(), re.MULTILINE)
    assert len(given) > 5
    assert given <= set(re.findall(r"`([a-z-]+)`", " ".join(rows)))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_installed_where_the_shell_finds_it(shell: str, tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    mesh = [sys.executable, "-m", "mesh"]
    for option in ("--install-completion", "--show-completion"):
        # Without a terminal the shell cannot be found out; a name may follow.
        environment["_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"] = "1"
        done = subprocess.run(
            [*mesh, option, shell], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "mesh" in done.stdout
    assert [file for file in tmp_path.rglob("*mesh*") if file.is_file()]


def test_completion_knows_commands_flags_kinds_and_names(tmp_path: Path) -> None:
    mine = {**os.environ, "MESH_STATE": str(tmp_path)}

    def complete(words: str) -> list[str]:
        environment = {**mine, "_MESH_COMPLETE": "complete_bash", "COMP_WORDS": words}
        environment["COMP_CWORD"] = str(len(words.split()) - 1)
        mesh = Path(sys.executable).parent / "mesh"
        done = subprocess.run([mesh], env=environment, capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert complete("mesh ap") == ["apply"]
    assert complete("mesh apply --rollb") == ["--rollback-on-reject"]
    assert complete("mesh get Ser") == ["Service"]
    assert complete("mesh describe Service a") == []
    apply = ["-m", "mesh", "apply", str(ROOT / "policies" / "shop"), "--yes"]
    subprocess.run([sys.executable, *apply], env=mine, capture_output=True, check=True)
    assert complete("mesh describe service a") == ["api", "api-v1", "api-v2"]
