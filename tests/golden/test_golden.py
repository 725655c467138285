"""What the compiler makes of each case, to the letter; and the real Envoy accepts all of it."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.support import compiled, envoy
from tests.support.golden import CASES, Case
from tests.support.sidecars import Authority


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture(params=CASES, ids=[folder.name for folder in CASES])
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def test_compiles_to_what_is_expected(case: Case, is_updating: bool) -> None:
    if is_updating:
        case.update()
    assert case.compiled() == case.expected()


def test_envoy_accepts_it(case: Case, authority: Authority, tmp_path: Path) -> None:
    if not case.sidecar.get("identity", True):
        return  # what waits for a secret can only be had over ADS
    admin = {"admin": {"address": {"pipe": {"path": str(tmp_path / "admin.sock")}}}}
    file = tmp_path / "bootstrap.json"
    file.write_text(json.dumps(compiled.static(case.view(authority)) | admin))
    command = [str(envoy.binary()), "--mode", "validate", "-c", str(file), "-l", "error"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert finished.returncode == 0, finished.stderr
