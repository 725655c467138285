"""The image installs what the tests ran with."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PIN = re.compile(r"^([a-z0-9.-]+==\S+)", re.MULTILINE)
HASH = re.compile(r"--hash=(\S+)")


@pytest.mark.parametrize("name", ["runtime.lock", "build.lock"])
def test_a_lock_of_the_image_holds_only_pins_and_hashes_of_the_project_s_lock(name: str) -> None:
    project = (ROOT / "requirements.lock").read_text()
    image = (ROOT / "tools" / "images" / name).read_text()
    assert set(PIN.findall(image)) <= set(PIN.findall(project)), (
        "requirements.lock has changed: compile the image's locks again (CONTRIBUTING.md)"
    )
    assert set(HASH.findall(image)) <= set(HASH.findall(project))


def test_every_dependency_of_the_project_is_in_the_image() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    dependencies = text.partition("\ndependencies = [")[2].partition("]")[0]
    names = re.findall(r'"([A-Za-z0-9.-]+)', dependencies)
    locked = {pin.partition("==")[0] for pin in PIN.findall(_runtime())}
    assert names
    assert {name.lower().replace(".", "-") for name in names} <= locked


def _runtime() -> str:
    return (ROOT / "tools" / "images" / "runtime.lock").read_text()
