"""The life of a real Envoy process: started apart, adopted, replaced, restarted, drained."""

import asyncio
import json
import os
import signal
import stat
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest

from mesh.adapters.envoy import EnvoyProcess
from mesh.adapters.envoy.process import start_time
from tests.support.envoy_process import Rig, within
from tests.support.leftovers import processes_of


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with Rig() as rig:
        await rig.publish(*rig.http("app"))
        await rig.envoy.wait_ready()
        yield rig


def _pid(envoy: EnvoyProcess) -> int:
    assert envoy.pid is not None
    return envoy.pid


async def test_envoy_belongs_to_nobody(rig: Rig) -> None:
    pid = _pid(rig.envoy)
    assert os.getsid(pid) != os.getsid(0)
    assert os.getpgid(pid) != os.getpgid(0)
    proc = Path(f"/proc/{pid}")
    assert f"PPid:\t{os.getpid()}\n" not in (proc / "status").read_text()
    assert b"PATH=" not in (proc / "environ").read_bytes()


async def test_its_files_are_its_owner_s(rig: Rig) -> None:
    for name in ("bootstrap.json", "envoy.json", "envoy.log", "admin.sock", "ads.sock"):
        mode = stat.S_IMODE((rig.folder / name).lstat().st_mode)
        assert mode == 0o600, f"{name} has mode {mode:04o}"


async def test_the_next_agent_adopts_it(rig: Rig) -> None:
    pid = _pid(rig.envoy)
    async with rig.load() as load:
        rig.running[-1].cancel()
        await asyncio.wait([rig.running[-1]])
        await rig.stop_server()
        following = rig.data_plane()
        rig.supervise(following)
        rig.start_server()
        await following.wait_ready()
        await rig.publish(*rig.http("next"))
        await load.more(20)
    assert not load.failures
    assert following.pid == pid
    assert rig.left == []
    assert await rig.get() == (200, "next")
    # The adopted process is watched like one's own.
    os.kill(pid, signal.SIGKILL)
    await within(timedelta(seconds=5), _has_other_pid(following, pid))
    await within(timedelta(seconds=5), following.is_ready)


async def test_a_killed_envoy_is_back_within_a_second(rig: Rig) -> None:
    pid = _pid(rig.envoy)
    started = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    await within(timedelta(seconds=5), _has_other_pid(rig.envoy, pid))
    await rig.envoy.wait_ready()
    assert await rig.get() == (200, "app")
    assert time.monotonic() - started < 1
    assert rig.envoy.restarts == 1


async def test_one_with_another_bootstrap_is_replaced(rig: Rig) -> None:
    pid = _pid(rig.envoy)
    rig.running[-1].cancel()
    await asyncio.wait([rig.running[-1]])
    following = rig.data_plane(node_id="web-2")
    rig.supervise(following)
    await within(timedelta(seconds=10), _has_other_pid(following, pid))
    await following.wait_ready()
    info = json.loads(await rig.admin("/server_info"))
    assert info["node"]["id"] == "web-2"
    assert rig.left == [(200, "app")]  # while the old one still served
    assert await rig.get() == (200, "app")


async def test_one_that_is_frozen_is_replaced(rig: Rig) -> None:
    pid = _pid(rig.envoy)
    rig.running[-1].cancel()
    await asyncio.wait([rig.running[-1]])
    os.kill(pid, signal.SIGSTOP)
    following = rig.data_plane()
    rig.supervise(following)
    await within(timedelta(seconds=20), _has_other_pid(following, pid))
    await following.wait_ready()


async def test_one_whose_record_is_lost_is_replaced(rig: Rig) -> None:
    pid = _pid(rig.envoy)
    rig.running[-1].cancel()
    await asyncio.wait([rig.running[-1]])
    (rig.folder / "envoy.json").write_text("{")
    following = rig.data_plane()
    rig.supervise(following)
    await within(timedelta(seconds=10), _has_other_pid(following, pid))
    await following.wait_ready()
    assert processes_of(rig.folder) == [following.pid]


async def test_one_that_cannot_be_recorded_does_not_run_on_unknown(rig: Rig) -> None:
    pid = _pid(rig.envoy)
    (rig.folder / "envoy.json").unlink()
    (rig.folder / "envoy.json").mkdir()
    os.kill(pid, signal.SIGKILL)

    async def is_tried_again() -> bool:
        return rig.envoy.restarts > 1

    await within(timedelta(seconds=10), is_tried_again)
    (rig.folder / "envoy.json").rmdir()
    await within(timedelta(seconds=10), _has_other_pid(rig.envoy, pid))
    await rig.envoy.wait_ready()
    assert processes_of(rig.folder) == [rig.envoy.pid]


async def test_draining_lets_open_requests_finish(rig: Rig) -> None:
    pid = _pid(rig.envoy)
    async with asyncio.TaskGroup() as tasks:
        slow = tasks.create_task(rig.get("/slow"))
        await rig.is_slow_open.wait()
        draining = tasks.create_task(rig.envoy.drain(timedelta(seconds=10)))
        # Requests that are still coming are served, and asked not to come again.
        await within(timedelta(seconds=5), _is_leaving(rig))
        assert not draining.done()
        rig.slow.set()
        assert (await slow)[0] == 200
        started = time.monotonic()
        await draining
        assert time.monotonic() - started < 3
    assert rig.envoy.pid is None
    assert start_time(pid) is None
    with pytest.raises(aiohttp.ClientConnectorError):
        await rig.get()
    assert not rig.running[-1].done(), "and it is not started again"


async def test_draining_ends_in_time_with_work_open(rig: Rig) -> None:
    async with asyncio.TaskGroup() as tasks:
        slow = tasks.create_task(_failing(rig))
        await rig.is_slow_open.wait()
        started = time.monotonic()
        await rig.envoy.drain(timedelta(seconds=0.5))
        assert time.monotonic() - started < 4
        assert await slow
    assert rig.envoy.pid is None
    rig.slow.set()


async def _failing(rig: Rig) -> bool:
    try:
        status, _ = await rig.get("/slow")
    except aiohttp.ClientError:
        return True
    return status != 200


def _has_other_pid(envoy: EnvoyProcess, pid: int) -> Callable[[], Awaitable[bool]]:
    async def has_other() -> bool:
        return envoy.pid not in (None, pid)

    return has_other


def _is_leaving(rig: Rig) -> Callable[[], Awaitable[bool]]:
    async def is_leaving() -> bool:
        async with rig.session.get(f"http://127.0.0.1:{rig.port}/") as response:
            assert response.status == 200
            return response.headers.get("connection") == "close"

    return is_leaving
