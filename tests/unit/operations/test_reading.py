"""Documents from the disk: bounded, without loops, each refusal at its place."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from mesh.diagnostics import Severity
from mesh.operations.reading import MAX_FILE_BYTES, git_root, read_paths


def names(*paths: Path | str) -> list[str]:
    return [file.name for file in read_paths([str(path) for path in paths]).files]


def codes(*paths: Path | str) -> list[str]:
    return [item.code for item in read_paths([str(path) for path in paths]).diagnostics]


def test_a_folder_is_read_by_name_with_what_is_below(tmp_path: Path):
    (tmp_path / "b.yaml").write_text("")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.yml").write_text("")
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / ".hidden.yaml").write_text("")
    (tmp_path / ".github").mkdir()
    (tmp_path / ".github" / "ci.yaml").write_text("")
    assert names(tmp_path) == ["a/x.yml", "b.yaml"]


def test_names_are_relative_to_the_git_root(tmp_path: Path):
    (tmp_path / ".git").mkdir()
    folder = tmp_path / "policies" / "shop"
    folder.mkdir(parents=True)
    (folder / "api.yaml").write_text("")
    assert names(folder) == ["policies/shop/api.yaml"]
    assert names(folder / "api.yaml") == ["policies/shop/api.yaml"]
    assert git_root(folder) == tmp_path


def test_outside_of_git_a_single_file_keeps_its_name(tmp_path: Path):
    (tmp_path / "api.yaml").write_text("")
    assert names(tmp_path / "api.yaml") == ["api.yaml"]


def test_outside_of_git_several_folders_and_files_stay_apart(tmp_path: Path):
    for folder in ("a", "b"):
        (tmp_path / folder / "deep").mkdir(parents=True)
        (tmp_path / folder / "deep" / "api.yaml").touch()
    a, b = tmp_path / "a", tmp_path / "b"
    assert names(a, b) == [f"{a}/deep/api.yaml", f"{b}/deep/api.yaml"]
    assert names(a) == ["deep/api.yaml"]
    files = [each / "deep" / "api.yaml" for each in (a, b)]
    assert names(*files) == [str(file) for file in files]


def test_a_folder_without_documents_is_worth_a_warning(tmp_path: Path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "api.json").touch()
    (found,) = read_paths([str(tmp_path), str(tmp_path)]).diagnostics
    assert (found.code, found.severity) == ("no-documents", Severity.WARNING)
    (tmp_path / "sub" / "api.YAML").touch()
    assert names(tmp_path) == ["sub/api.YAML"]
    assert codes(tmp_path) == []


def test_a_file_of_any_suffix_may_be_named(tmp_path: Path):
    (tmp_path / "policies.txt").write_text("")
    assert names(tmp_path / "policies.txt") == ["policies.txt"]


def test_each_file_is_read_once(tmp_path: Path):
    (tmp_path / "a.yaml").write_text("")
    (tmp_path / "b.yaml").symlink_to("a.yaml")
    assert len(names(tmp_path, tmp_path / "a.yaml", tmp_path)) == 1


def test_links_in_circles_end(tmp_path: Path):
    (tmp_path / "a.yaml").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "self.yaml").symlink_to("self.yaml")
    assert names(tmp_path) == ["a.yaml"]
    assert codes(tmp_path) == ["unreadable-file"]


def test_a_broken_link_is_told(tmp_path: Path):
    (tmp_path / "gone.yaml").symlink_to("nowhere.yaml")
    assert codes(tmp_path) == ["unreadable-file"]
    (found,) = read_paths([str(tmp_path / "gone.yaml")]).diagnostics
    assert found.code == "unreadable-file"
    assert "nowhere.yaml" in found.hint


def test_a_missing_path_is_told_with_the_nearest_name(tmp_path: Path):
    (tmp_path / "policies").mkdir()
    (found,) = read_paths([str(tmp_path / "policy")]).diagnostics
    assert found.code == "no-such-file"
    assert "policies" in found.hint


def test_special_files_are_refused_and_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.yaml")
    assert codes(tmp_path) == ["not-a-file"]
    assert codes("/dev/zero") == ["not-a-file"]


def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.yaml")
        assert codes("s.yaml") == ["unreadable-file"]


def test_a_file_that_is_too_large_is_refused_unread(tmp_path: Path):
    with (tmp_path / "big.yaml").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    (found,) = read_paths([str(tmp_path)]).diagnostics
    assert found.code == "file-too-large"
    assert str(MAX_FILE_BYTES) in found.message


def test_a_name_that_is_no_text_is_still_shown(tmp_path: Path):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.yaml")).write_text("")
    (name,) = names(tmp_path)
    assert name.encode() == "\ufffd.yaml".encode()


@pytest.fixture
def somebody_else() -> Iterator[None]:
    """Root reads everything, so for as long as the test runs it is nobody."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield
    os.seteuid(user)


def test_what_may_not_be_read_is_told(somebody_else: None):
    with TemporaryDirectory() as made:  # pytest's own folder is for its user alone
        folder = Path(made)
        (folder / "a.yaml").write_text("")
        (folder / "a.yaml").chmod(0)
        assert codes(folder) == ["unreadable-file"]
