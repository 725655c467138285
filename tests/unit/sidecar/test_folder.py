import os
import stat
from pathlib import Path

import pytest

from mesh.errors import Conflict, OutsideError
from mesh.model.identity import ServiceName
from mesh.sidecar import folder

API = ServiceName("default", "api")


def test_ids_count_up_past_those_that_are_held(tmp_path: Path) -> None:
    first = folder.take(tmp_path, API)
    second = folder.take(tmp_path, API)
    assert first.id.endswith("-default-api-1")
    assert second.id.endswith("-default-api-2")
    first.close()
    third = folder.take(tmp_path, API)
    assert third.id == first.id
    second.close()
    third.close()


def test_a_held_id_is_refused(tmp_path: Path) -> None:
    held = folder.take(tmp_path, API, "one")
    with pytest.raises(Conflict, match='"one" runs already'):
        folder.take(tmp_path, API, "one")
    held.close()


def test_folders_and_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        taken = folder.take(tmp_path / "state", API, "one")
        folder.write_document(taken.path / "x.json", {"a": 1})
    finally:
        os.umask(before)
    assert stat.S_IMODE(taken.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(taken.path.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(f.stat().st_mode) for f in taken.path.iterdir()} == {0o600}
    taken.close()


def test_sockets_move_to_a_short_folder_where_the_path_is_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    taken = folder.take(tmp_path / ("d" * 90), API, "one")
    assert taken.sockets != taken.path
    assert stat.S_IMODE(taken.sockets.stat().st_mode) == 0o700
    taken.close()
    again = folder.take(tmp_path / ("d" * 90), API, "one")
    assert again.sockets == taken.sockets
    again.close()


def test_a_link_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(OutsideError, match="is not a folder of user"):
        folder.private_folder(tmp_path / "link")


def test_a_state_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(OutsideError, match="cannot use"):
        folder.take(tmp_path / "state", API)


def test_documents_come_back_as_written(tmp_path: Path) -> None:
    folder.write_document(tmp_path / "x", {"b": ["ä"], "a": None})
    assert folder.read_document(tmp_path / "x") == {"b": ["ä"], "a": None}
    assert [f.name for f in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("damage", ["cut", "emptied", "altered"])
def test_a_damaged_document_counts_as_none(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "x"
    folder.write_document(path, {"key": "value"})
    whole = path.read_bytes()
    path.write_bytes(
        {"cut": whole[:-1], "emptied": b"", "altered": whole.replace(b"value", b"other")}[damage]
    )
    assert folder.read_document(path) is None
    assert folder.read_document(tmp_path / "missing") is None
