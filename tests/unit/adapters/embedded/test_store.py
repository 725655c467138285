"""The embedded store where it differs from every other: files, bells, ticks."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from mesh.adapters.clock import SystemClock
from mesh.adapters.embedded import EmbeddedStore
from mesh.adapters.embedded.bell import folder_of
from mesh.ports import Put, Store, Transaction, Watched

PATIENCE_SECONDS = 10.0


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EmbeddedStore]:
    async with EmbeddedStore(tmp_path / "mesh.db", clock=SystemClock()) as store:
        yield store


def names(folder: Path) -> list[str]:
    return [found.name for found in folder.iterdir()]


def remove(path: Path) -> None:
    for part in path.parent.glob(f"{path.name}*"):
        part.unlink()


def put(key: str) -> Transaction:
    return Transaction(puts=(Put(key, b"1"),))


async def until(states: AsyncIterator[Watched], *keys: str, is_lost: bool = False) -> Watched:
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for state in states:
            if sorted(state.entries) == sorted(keys) and (state.lost is not None) == is_lost:
                return state
    raise AssertionError


async def test_it_is_a_store(tmp_path: Path) -> None:
    store: Store = EmbeddedStore(tmp_path / "mesh.db", clock=SystemClock())
    async with store:
        assert await store.scan("") == {}


async def test_a_commit_whose_process_died_before_it_rang_is_seen_all_the_same(
    store: EmbeddedStore, tmp_path: Path
) -> None:
    await store.commit(put("a"))
    async with aclosing(store.watch("")) as states:
        await until(states, "a")
        silent = sqlite3.connect(tmp_path / "mesh.db")
        with silent:
            silent.execute("UPDATE counter SET version = version + 1")
            silent.execute("INSERT INTO entries SELECT 'b', x'', version, NULL FROM counter")
        await until(states, "a", "b")
        silent.close()


async def test_a_file_that_vanishes_is_lost_once_and_a_new_one_heals(
    store: EmbeddedStore, tmp_path: Path
) -> None:
    await store.commit(put("a"))
    async with aclosing(store.watch("")) as states:
        await until(states, "a")
        remove(tmp_path / "mesh.db")
        state = await until(states, "a", is_lost=True)
        assert "is gone" in (state.lost or "")
        async with EmbeddedStore(tmp_path / "mesh.db", clock=SystemClock()) as other:
            await other.commit(put("b"))
            assert (await anext(states)).lost is None
            await store.commit(put("c"))
            await until(states, "b", "c")


async def test_nothing_is_left_when_it_is_left(tmp_path: Path) -> None:
    async with EmbeddedStore(tmp_path / "mesh.db", clock=SystemClock()) as store:
        async with aclosing(store.watch("")) as states:
            await anext(states)
        assert len(names(tmp_path / "watch")) == 1
        descriptors = len(names(Path("/dev/fd")))
    assert names(tmp_path / "watch") == []
    assert len(names(Path("/dev/fd"))) < descriptors


async def test_a_path_too_long_for_a_socket_is_woken_at_once_too(tmp_path: Path) -> None:
    path = tmp_path / ("long" * 30) / "mesh.db"
    folder = folder_of(path.resolve())
    assert tmp_path not in folder.parents
    loop = asyncio.get_running_loop()
    try:
        async with (
            EmbeddedStore(path, clock=SystemClock()) as store,
            EmbeddedStore(path, clock=SystemClock()) as other,
            aclosing(store.watch("")) as states,
        ):
            await until(states)
            start = loop.time()
            for n in range(5):
                await other.commit(put(f"k{n}"))
                await until(states, *(f"k{i}" for i in range(n + 1)))
            assert loop.time() - start < 4  # five ticks
    finally:
        folder.rmdir()


async def test_a_relative_path_and_a_link_are_the_same_store(
    store: EmbeddedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    async with aclosing(store.watch("")) as states:
        await until(states)
        for number, path in enumerate((Path("mesh.db"), tmp_path / "link" / "mesh.db")):
            async with EmbeddedStore(path, clock=SystemClock()) as other:
                await other.commit(Transaction(puts=(Put("a", str(number).encode()),)))
            await until(states, "a")


async def test_many_that_open_a_new_store_at_once_all_get_it(tmp_path: Path) -> None:
    async def enter(number: int) -> None:
        async with EmbeddedStore(tmp_path / "new" / "mesh.db", clock=SystemClock()) as store:
            await store.commit(put(f"k{number}"))

    async with asyncio.TaskGroup() as group:
        for number in range(12):
            group.create_task(enter(number))
    async with EmbeddedStore(tmp_path / "new" / "mesh.db", clock=SystemClock()) as store:
        assert len(await store.scan("k")) == 12
