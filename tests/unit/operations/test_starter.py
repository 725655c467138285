"""The starter folder validates and overwrites nothing."""

from pathlib import Path

import pytest

from mesh.errors import InputError
from mesh.operations.starter import write_starter
from mesh.operations.validate import validate


async def test_the_starter_validates(tmp_path: Path):
    starter = write_starter(tmp_path / "shop")
    found = await validate([str(starter.folder)])
    assert found.diagnostics == ()
    assert found.documents == 5


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path):
    (tmp_path / "api.yaml").write_text("mine")
    with pytest.raises(InputError, match=r"api\.yaml"):
        write_starter(tmp_path)
    assert (tmp_path / "api.yaml").read_text() == "mine"
    assert not (tmp_path / "mesh.yaml").exists()
