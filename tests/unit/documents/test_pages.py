"""What the documentation and the worked examples say about documents is true."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.documents.front_end import front_end
from mesh.documents.parser import SourceText
from mesh.documents.schema import Schema, load
from tests.support.documents import KINDS, ROOT, check

ERRORS = (ROOT / "docs" / "errors.md").read_text()
SECTIONS = dict(re.findall(r"^### ([a-z0-9-]+)\n(.*?)(?=^##|\Z)", ERRORS, re.MULTILINE | re.DOTALL))
PAGES = {
    "Mesh": "mesh",
    "Service": "service",
    "ExternalService": "external-service",
    "HTTPRoute": "http-route",
    "TrafficPolicy": "traffic-policy",
    "AccessPolicy": "access-policy",
}
# Refusals whose examples are too large or no text: their tests are in test_parser and test_linker.
WITHOUT_EXAMPLE = {
    "file-too-large",
    "document-too-large",
    "too-many-documents",
    "not-utf8",
    "binary-file",
    "too-deep",
    "owned-elsewhere",
}
_CODE = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)+")


def yaml_of(text: str) -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize(
    "folder", sorted((ROOT / "policies").iterdir()), ids=lambda path: path.name
)
def test_a_story_of_policies_is_valid(folder: Path) -> None:
    files = sorted(folder.rglob("*.yaml"))
    assert files
    result = front_end([SourceText(str(file), file.read_bytes()) for file in files])
    assert result.diagnostics == ()
    assert len(result.policies) == result.documents > 0
    for file in files:
        schema = re.match(r"# yaml-language-server: \$schema=(\S+)\n", file.read_text())
        assert schema is not None
        assert (file.parent / schema[1]).is_file()


_REFERENCES = (
    "unknown-backend",
    "unknown-parent",
    "unknown-service",
    "unknown-target",
    "unknown-port",
)


@pytest.mark.parametrize(("code", "text"), SECTIONS.items(), ids=lambda value: str(value)[:20])
def test_an_example_of_an_error_has_that_error(code: str, text: str) -> None:
    for example in yaml_of(text):
        result = check(example, partial=code not in _REFERENCES)
        assert {item.code for item in result.errors or result.diagnostics} - {"unknown-parent"} == {
            code
        } - {"unknown-parent"}
        assert code in {item.code for item in result.diagnostics}


def test_every_code_is_documented() -> None:
    missing = {
        code: str(file.relative_to(ROOT))
        for file in sorted((ROOT / "mesh").rglob("*.py"))
        if file.parent.name != "ca"  # its linter has findings of its own, about certificates
        for code in _codes(ast.parse(file.read_text()))
        if code not in SECTIONS
    }
    assert missing == {}


def test_every_code_of_the_front_end_has_an_example() -> None:
    codes = {
        code
        for file in (ROOT / "mesh" / "documents").glob("*.py")
        for code in _codes(ast.parse(file.read_text()))
    }
    assert len(codes) > 40
    lacking = {code for code in codes if not yaml_of(SECTIONS[code])}
    assert lacking == WITHOUT_EXAMPLE


_MAKERS = {
    "Diagnostic",
    "Finding",
    "Problem",
    "_note",
    "_error",
    "refuse",
    "dangling",
    "_reference",
    "_too_large",
}


_NAMES = {"code", "REJECTED", "NOT_COMPILED"}


def _codes(tree: ast.AST) -> Iterator[str]:
    """Codes given to what makes diagnostics, and those of exceptions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name in _MAKERS:
                for argument in [*node.args, *(item.value for item in node.keywords)]:
                    yield from _kebab(argument)
        elif isinstance(node, ast.Assign) and (name := ast.unparse(node.targets[0])) in _NAMES:
            yield from _kebab(node.value, any_word=name == "code")


def _kebab(node: ast.expr, any_word: bool = False) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        if any_word or _CODE.fullmatch(node.value):
            yield node.value
    elif isinstance(node, ast.Tuple):
        for item in node.elts:
            yield from _kebab(item)


@pytest.mark.parametrize(
    "page", sorted((ROOT / "docs" / "reference").glob("*.md")), ids=lambda p: p.name
)
def test_the_documents_in_the_reference_are_valid(page: Path) -> None:
    for example in yaml_of(page.read_text()):
        if "apiVersion" in example:
            result = check(example, partial=True)
            assert result.errors == ()
            assert result.policies


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_has_every_field_with_its_default(kind: str) -> None:
    text = (ROOT / "docs" / "reference" / f"{PAGES[kind]}.md").read_text()
    rows = {match[1]: match[0] for match in re.finditer(r"^\| `([^`]+)` \|.*$", text, re.MULTILINE)}
    properties = load(kind)["properties"]
    assert isinstance(properties, dict)
    fields = dict(_fields(properties["spec"], "spec"))
    assert set(rows) == set(fields)
    for path, default in fields.items():
        assert default is None or f"| `{default}` |" in rows[path], path


def _fields(schema: object, path: str) -> Iterator[tuple[str, str | None]]:
    assert isinstance(schema, dict)
    rules: dict[str, Schema] = schema.get("properties", {})
    for name, rule in rules.items():
        below = f"{path}.{name}"
        default = rule.get("default")
        shown = None if default is None else str(default if default != "" else '""')
        yield below, shown.lower() if isinstance(default, bool) and shown else shown
        is_list = rule.get("type") == "array"
        yield from _fields(rule["items"] if is_list else rule, f"{below}[]" if is_list else below)
