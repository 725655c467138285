"""A plan as a comment: whole, bounded, and unbroken by what documents contain."""

from dataclasses import replace
from pathlib import Path

from mesh.cli.plan_markdown import MARK, MOST_CHARACTERS, code, markdown
from mesh.diagnostics import Diagnostic, Position, Severity
from mesh.operations.plan import prepare
from tests.support.operations import access, applied, opened, service, write


def test_code_in_a_cell_is_not_ended_by_its_content():
    assert code("plain") == "`plain`"
    assert code("a|b\nc") == "`a\\|b c`"
    assert code("a `b` c") == "``a `b` c``"
    assert code("``x") == "``` ``x ```"


async def test_changes_and_warnings_are_told(tmp_path: Path):
    folder = write(tmp_path / "p", a=service("api"))
    async with opened(tmp_path) as store:
        await applied(store, [folder])
        write(tmp_path / "p", a=service("api", extra=", dependencies: []"), b=access("api", "web"))
        warning = Diagnostic(Position("b.yaml", 6), Severity.WARNING, "c", "it is odd", "mend it")
        prepared = await prepare(store, [folder], "main")
        text = markdown(replace(prepared, diagnostics=(warning,)))
        assert text.startswith(f"{MARK}\n### mesh plan for source")
        assert "**1 to create, 1 to update**. No sidecar runs." in text
        row = "| update | Service default/api | `a.yaml:1` | `spec.dependencies`: (none) → `[]` |"
        assert row in text
        assert text.endswith("**Warnings**\n\n- `b.yaml:6:1` it is odd (mend it)")
        other = markdown(replace(prepared, live=1))
        assert "**1 to create, 1 to update**. It touches none of 1 live sidecar." in other
        await applied(store, [folder])
        assert "**Nothing to change**" in markdown(await prepare(store, [folder], "main"))


async def test_a_large_plan_fits_into_a_comment(tmp_path: Path):
    documents = "---\n".join(service(f"service-{number}") for number in range(2000))
    folder = write(tmp_path / "p", a=documents)
    async with opened(tmp_path) as store:
        text = markdown(await prepare(store, [folder], "main"))
    assert len(text) < MOST_CHARACTERS
    assert text.rstrip().endswith("more changes")
