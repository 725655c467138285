"""Who applies, and from which commit."""

import getpass
import subprocess
from pathlib import Path

import pytest

from mesh.operations.provenance import author, commit_of


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository with one commit, apart from the user's configuration."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    (tmp_path / "a.yaml").write_text("")
    for command in (
        ["init", "--quiet"],
        ["config", "user.name", "Alice"],
        ["config", "user.email", "alice@example.org"],
        ["add", "a.yaml"],
        ["commit", "--quiet", "--message", "first"],
    ):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


def head(repository: Path) -> str:
    asked = ["git", "rev-parse", "HEAD"]
    return subprocess.check_output(asked, cwd=repository, text=True).strip()


def test_the_author_is_who_git_knows(repository: Path):
    assert author(repository) == "Alice <alice@example.org>"


def test_the_author_without_git_is_the_systems_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    assert author(tmp_path).startswith(f"{getpass.getuser()}@")


def test_the_commit_is_the_one_that_is_checked_out(repository: Path):
    assert commit_of([str(repository / "a.yaml")]) == head(repository)


def test_documents_that_differ_from_the_commit_are_marked(repository: Path):
    (repository / "a.yaml").write_text("changed")
    assert commit_of([str(repository)]) == f"{head(repository)}-dirty"


def test_a_change_elsewhere_in_the_repository_is_no_difference(repository: Path):
    (repository / "notes.txt").write_text("new")
    assert commit_of([str(repository / "a.yaml")]) == head(repository)


def test_outside_of_git_there_is_no_commit(tmp_path: Path):
    assert commit_of([str(tmp_path)]) is None
    assert commit_of(["-"]) is None
