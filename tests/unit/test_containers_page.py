"""The example of docs/containers.md is a test of the project, word for word."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_example_is_the_test_that_runs() -> None:
    page = (ROOT / "docs" / "containers.md").read_text()
    example = page.partition("```python\n")[2].partition("```")[0]
    assert example == (ROOT / "tests" / "containers" / "test_api_policies.py").read_text()
