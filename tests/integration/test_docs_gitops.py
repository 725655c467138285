"""docs/gitops.md: its commands, and those of its files for CI, do what the page says."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.support.doc_blocks import ROOT, blocks, differences
from tests.support.operations import service
from tests.support.repositories import Origin

PAGE = ROOT / "docs" / "gitops.md"
FILES = [YAML(typ="safe").load(block.text) for block in blocks(PAGE, "yaml")]


def test_the_pages_commands_print_what_it_says() -> None:
    assert "\n\n".join(differences(blocks(PAGE), {})) == ""


class Runner:
    """A checkout in which lines of CI run; what is not ours there writes down how it was called."""

    def __init__(self, folder: Path) -> None:
        self.origin = Origin.make(folder / "checkout")
        self._folder = folder
        self._calls = folder / "calls"
        stubs = folder / "bin"
        stubs.mkdir()
        for name in ("pip", "gh", "curl"):
            (stubs / name).write_text(f'#!/bin/sh\necho "{name} $*" >> "{self._calls}"\n')
            (stubs / name).chmod(0o755)

    def run(self, line: str) -> int:
        """Run one as a runner does; its exit code."""
        environment = {
            "PATH": f"{self._folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "MESH_STATE": str(self._folder / "state"),
            "MESH_PACKAGE": "mesh",
            "NUMBER": "7",
            "CI_REPOSITORY_URL": self.origin.url,
            "CI_COMMIT_BRANCH": "main",
            "CI_API_V4_URL": "https://git.example/api/v4",
        }
        return subprocess.run(
            ["bash", "-e", "-c", line],
            cwd=self.origin.folder,
            env=environment,
            timeout=60,
            check=False,
        ).returncode

    def calls(self) -> Iterator[str]:
        """What was called that is not ours."""
        yield from self._calls.read_text().splitlines()


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    runner = Runner(tmp_path)
    runner.origin.commit("one", a=service("api"))
    return runner


def _jobs() -> Iterator[tuple[str, list[str]]]:
    for file in FILES:
        for name, job in file.get("jobs", {}).items():
            yield f"actions-{name}", [step["run"] for step in job["steps"] if "run" in step]
        for name, job in file.items():
            if isinstance(job, dict) and "script" in job:
                yield f"gitlab-{name}", job["script"]


JOBS = dict(_jobs())


@pytest.mark.parametrize("name", ["actions-plan", "gitlab-plan"])
def test_a_merge_request_gets_the_plan_as_a_comment(runner: Runner, name: str) -> None:
    assert [runner.run(line) for line in JOBS[name]] == [0] * len(JOBS[name])
    comment = (runner.origin.folder / "plan.md").read_text()
    assert comment.startswith("<!-- mesh plan -->\n### mesh plan")
    assert "| create | Service default/api | `policies/a.yaml:1` |" in comment
    assert "plan.md" in list(runner.calls())[-1]


@pytest.mark.parametrize("name", ["actions-plan", "gitlab-plan"])
def test_a_mistake_fails_the_merge_requests_job(runner: Runner, name: str) -> None:
    runner.origin.commit("two", b="kind: Service")
    (line,) = [line for line in JOBS[name] if line.startswith("mesh validate")]
    assert runner.run(line) == 1


def test_the_default_branch_is_deployed(runner: Runner) -> None:
    lines = JOBS["gitlab-deploy"]
    assert [runner.run(line) for line in lines] == [0] * len(lines)
    assert runner.run("mesh get Service api") == 0


def test_the_hook_for_pre_commit_finds_mistakes(runner: Runner) -> None:
    (hook,) = YAML(typ="safe").load((ROOT / ".pre-commit-hooks.yaml").read_text())
    (configured,) = _hooks()
    assert configured["id"] == hook["id"]
    line = " ".join([hook["entry"], *configured["args"]])
    assert runner.run(line) == 0
    runner.origin.commit("two", b="kind: Service")
    assert runner.run(line) == 1


def _hooks() -> list[Any]:
    return [
        hook
        for file in FILES
        for repository in file.get("repos", ())
        for hook in repository["hooks"]
    ]
