"""How the machine's own mirror is found, and what is said where a server cannot be had."""

from pathlib import Path

import pytest

from tools.servers import Failure, deb822_sources, locate, machine_source, one_line_sources

DEB822 = """\
# the distribution
Types: deb deb-src
URIs: https://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/example.gpg

Types: deb
URIs: https://mirror.example/security
Suites: bookworm-security
Components: main

Enabled: no
Types: deb
URIs: https://mirror.example/off
Suites: trixie
Components: main
"""
ONE_LINE = """\
# deb https://mirror.example/off bookworm main
deb-src https://mirror.example/debian bookworm main
deb [arch=amd64 signed-by=/k.gpg] https://mirror.example/ubuntu noble main universe # ours
"""


def test_entries_of_both_styles_are_read() -> None:
    found = list(deb822_sources(DEB822))
    assert [(source.uri[23:], source.suites) for source in found] == [
        ("debian", ("bookworm", "bookworm-updates")),
        ("security", ("bookworm-security",)),
    ]
    assert found[0].signed_by == "/usr/share/keyrings/example.gpg"
    (source,) = one_line_sources(ONE_LINE)
    assert (source.uri[23:], source.suites, source.components, source.signed_by) == (
        "ubuntu",
        ("noble",),
        ("main", "universe"),
        "/k.gpg",
    )


def test_the_machines_own_release_is_what_counts(tmp_path: Path) -> None:
    folder = tmp_path / "sources.list.d"
    folder.mkdir()
    (folder / "debian.sources").write_text(DEB822)
    (folder / "old.sources.disabled").write_text(DEB822.replace("bookworm", "sid"))
    (tmp_path / "sources.list").write_text(ONE_LINE)
    assert machine_source("bookworm", tmp_path).uri.endswith("/debian")
    assert machine_source("noble", tmp_path).uri.endswith("/ubuntu")
    for codename in ("sid", "trixie"):
        with pytest.raises(Failure, match="MESH_TEST_ETCD"):
            machine_source(codename, tmp_path)


def test_a_server_that_is_named_is_taken_and_a_wrong_name_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "etcd"
    monkeypatch.setenv("MESH_TEST_ETCD", str(program))
    with pytest.raises(Failure, match="is not a program"):
        locate("etcd")
    program.touch(mode=0o755)
    assert locate("etcd") == program


def test_a_server_on_the_path_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MESH_TEST_CONSUL", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "consul").touch(mode=0o755)
    assert locate("consul") == tmp_path / "consul"
