"""How processes of one host wake one another."""

import asyncio
import os
import socket
import stat
from contextlib import closing
from pathlib import Path

import pytest

from mesh.adapters.embedded.bell import MAX_ADDRESS_BYTES, Bell, folder_of, is_private


def names(folder: Path) -> list[str]:
    return [found.name for found in folder.iterdir()]


def mode(folder: Path) -> int:
    return stat.S_IMODE(folder.stat().st_mode)


def make(folder: Path, mode: int) -> None:
    folder.mkdir()
    folder.chmod(mode)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "watch"


async def test_one_ring_wakes_every_listener_and_rings_add_up_to_one(folder: Path) -> None:
    heard: list[asyncio.Event] = [asyncio.Event(), asyncio.Event()]
    ears = [Bell(folder), Bell(folder)]
    for ear, event in zip(ears, heard, strict=True):
        ear.listen(event.set)
    for _ in range(1000):  # more than a socket's buffer takes
        Bell(folder).ring()
    async with asyncio.timeout(5):
        for event in heard:
            await event.wait()
    for ear in ears:
        ear.close()
    assert names(folder) == []


async def test_the_folder_is_private(folder: Path) -> None:
    before = os.umask(0)
    try:
        bell = Bell(folder)
        bell.listen(lambda: None)
    finally:
        os.umask(before)
    assert mode(folder) == 0o700
    bell.close()


async def test_a_socket_is_its_owners_alone_whatever_the_umask(folder: Path) -> None:
    before = os.umask(0)
    try:
        with closing(Bell(folder)) as bell:
            bell.listen(lambda: None)
            (name,) = names(folder)
            assert mode(folder / name) == 0o600
    finally:
        os.umask(before)


async def test_a_folder_that_is_open_to_others_is_not_used(folder: Path) -> None:
    make(folder, 0o755)
    assert not is_private(folder)
    bell = Bell(folder)
    bell.listen(lambda: None)
    assert names(folder) == []
    bell.close()


def test_a_link_to_a_private_folder_is_not_private(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert is_private(tmp_path / "real")
    assert not is_private(tmp_path / "link")


async def test_what_a_dead_process_left_is_removed(folder: Path) -> None:
    make(folder, 0o700)
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as dead:
        dead.bind(os.fspath(folder / "1-dead"))
    heard = asyncio.Event()
    bell = Bell(folder)
    bell.listen(heard.set)
    Bell(folder).ring()
    async with asyncio.timeout(5):
        await heard.wait()
    assert len(names(folder)) == 1
    bell.close()


def test_ringing_where_nobody_ever_listened_is_fine(tmp_path: Path) -> None:
    Bell(tmp_path / "absent").ring()


def test_a_long_path_gets_a_short_folder_of_its_own() -> None:
    short = folder_of(Path("/var/lib/mesh/mesh.db"))
    assert short == Path("/var/lib/mesh/watch")
    long = [Path("/", "x" * 100, name) for name in ("mesh.db", "other.db")]
    folders = [folder_of(path) for path in long]
    assert folders == [folder_of(path) for path in long]
    assert len(set(folders)) == 2
    for folder in folders:
        assert len(os.fsencode(folder / f"{2**22}-{'0' * 8}")) <= MAX_ADDRESS_BYTES
