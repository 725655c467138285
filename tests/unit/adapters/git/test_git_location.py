"""Which repositories are taken, and how they are told."""

from pathlib import Path

import pytest

from mesh.adapters.git.location import locate, redact
from mesh.errors import UsageError


@pytest.mark.parametrize(
    "text",
    [
        "https://git.example/mesh.git",
        "ssh://git@git.example:2222/mesh.git",
        "git@git.example:team/mesh.git",
        "file:///srv/mesh.git",
    ],
)
def test_urls_are_taken_as_git_takes_them(text: str):
    assert locate(text) == text


def test_a_folder_is_taken_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "mesh.git").mkdir()
    monkeypatch.chdir(tmp_path)
    assert locate("mesh.git") == str(tmp_path / "mesh.git")
    assert locate(str(tmp_path / "mesh.git")) == str(tmp_path / "mesh.git")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "--upload-pack=touch /tmp/x",
        "ext::sh -c touch% /tmp/x",
        "transport::https://git.example",
        "ext://x",
        "/there/is/none",
        "./none",
        "none",
        "a\nb:c",
    ],
)
def test_what_is_no_repository_is_refused(text: str):
    with pytest.raises(UsageError, match="--repo"):
        locate(text)


def test_passwords_and_tokens_are_not_told():
    assert redact("https://ann:secret@git.example/m.git") == "https://ann@git.example/m.git"
    assert redact("https://ghp_token@git.example:8443/m.git") == "https://git.example:8443/m.git"
    assert redact("ssh://git@git.example/m.git") == "ssh://git@git.example/m.git"
    assert redact("git@git.example:m.git") == "git@git.example:m.git"
    assert redact("https://git.example/m.git") == "https://git.example/m.git"
    with pytest.raises(UsageError) as refused:
        locate("ftp://ann:secret@git.example")
    assert "secret" not in refused.value.message
