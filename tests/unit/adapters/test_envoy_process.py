"""The process as the system sees it, with small programs in Envoy's place."""

import asyncio
import json
import os
import signal
import stat
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from mesh.adapters.clock import SystemClock
from mesh.adapters.envoy import EnvoyProcess, find_binary
from mesh.adapters.envoy.process import (
    Process,
    Record,
    binary_version,
    launch,
    start_time,
    write_bootstrap,
    write_private,
)
from mesh.errors import OutsideError, Unavailable
from tests.support.manual_clock import ManualClock

CLOCK = SystemClock()


@pytest.fixture
def started() -> Iterator[list[Process]]:
    """Processes to end with the test."""
    processes: list[Process] = []
    yield processes
    for process in processes:
        process.signal(signal.SIGKILL)


def _program(folder: Path, script: str) -> Path:
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return path


def test_the_installed_binary_is_found() -> None:
    assert os.access(find_binary(), os.X_OK)


async def test_its_version_is_in_the_form_of_the_admin_interface() -> None:
    assert "/1.40.0/" in await binary_version(find_binary())


async def test_a_binary_that_does_not_run_is_reported(tmp_path: Path) -> None:
    with pytest.raises(OutsideError, match="no such file"):
        await binary_version(tmp_path / "absent")


async def test_a_launched_process_is_watched_to_its_end(
    tmp_path: Path, started: list[Process]
) -> None:
    program = _program(tmp_path, "exec sleep 60")
    process = launch(program, tmp_path / "b.json", tmp_path / "log")
    started.append(process)
    assert process.is_running()
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(process.wait(CLOCK))
        process.signal(signal.SIGKILL)
        await watching
    assert not process.is_running()
    await process.wait(CLOCK)


async def test_it_gets_its_options_and_none_of_our_environment(
    tmp_path: Path, started: list[Process]
) -> None:
    program = _program(tmp_path, 'echo "$@"; echo "home=$HOME"; exec sleep 60')
    log = tmp_path / "log"
    started.append(launch(program, tmp_path / "b.json", log))
    while "home=" not in log.read_text():
        await CLOCK.sleep(timedelta(milliseconds=5))
    options, home = log.read_text().splitlines()
    assert f"--config-path {tmp_path / 'b.json'}" in options
    assert "--concurrency 1" in options
    assert "--disable-hot-restart" in options
    assert home == "home="
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_a_full_log_is_put_aside(tmp_path: Path, started: list[Process]) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * (2 << 20))
    started.append(launch(_program(tmp_path, "exec sleep 60"), tmp_path / "b.json", log))
    assert log.stat().st_size == 0
    assert (tmp_path / "log.1").stat().st_size == 2 << 20


def test_a_pid_that_somebody_else_got_is_not_the_process() -> None:
    now = start_time(os.getpid())
    assert now is not None
    assert Process(os.getpid(), now).is_running()
    assert not Process(os.getpid(), now + "1").is_running()


async def test_waiting_for_somebody_else_s_pid_ends_at_once() -> None:
    async with asyncio.timeout(5):
        await Process(os.getpid(), "never").wait(CLOCK)


def test_a_stranger_is_not_signalled() -> None:
    Process(os.getpid(), "never").signal(signal.SIGKILL)


def test_a_record_comes_back(tmp_path: Path) -> None:
    record = Record(Process(12, "345"), "digest")
    record.write(tmp_path / "envoy.json")
    assert Record.read(tmp_path / "envoy.json") == record
    assert json.loads((tmp_path / "envoy.json").read_text())["pid"] == 12


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', '{"pid": "x", "started": "1"}'])
def test_a_broken_record_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "envoy.json").write_text(content)
    assert Record.read(tmp_path / "envoy.json") is None


def test_equal_bootstraps_have_equal_digests(tmp_path: Path) -> None:
    first = write_bootstrap(tmp_path / "b", {"a": 1, "b": [2]})
    assert first == write_bootstrap(tmp_path / "b", {"b": [2], "a": 1})
    assert first != write_bootstrap(tmp_path / "b", {"a": 1, "b": [3]})


def test_a_file_is_replaced_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_reported(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no such file"):
        write_private(tmp_path / "absent" / "f", b"")


async def test_the_first_restart_is_at_once_and_the_next_ones_wait(tmp_path: Path) -> None:
    program = _program(tmp_path, "echo refused; exec sleep 0.01")
    clock = ManualClock()
    envoy = EnvoyProcess(
        folder=tmp_path, bootstrap=_bootstrap(tmp_path), clock=clock, binary=program
    )
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(envoy.run(_nobody_calls))
        starts = 2
        await _until(lambda: _starts(tmp_path) == starts and clock.sleepers == 1)
        for seconds in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0):
            clock.advance(timedelta(seconds=seconds / 2.001))
            assert clock.sleepers == 1, "it waits at least half of its delay"
            clock.advance(timedelta(seconds=seconds / 1.999))
            starts += 1
            await _until(lambda n=starts: _starts(tmp_path) == n and clock.sleepers == 1)
        running.cancel()


async def test_nothing_is_started_after_a_drain(tmp_path: Path) -> None:
    program = _program(tmp_path, "exec sleep 60")
    envoy = EnvoyProcess(
        folder=tmp_path, bootstrap=_bootstrap(tmp_path), clock=CLOCK, binary=program
    )
    await envoy.drain(timedelta(seconds=1))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(envoy.run(_nobody_calls))
        done, _ = await asyncio.wait([running], timeout=0.1)
        assert not done
        assert envoy.pid is None
        running.cancel()
    assert not await envoy.is_ready()


def _bootstrap(folder: Path) -> dict[str, object]:
    admin = {"address": {"pipe": {"path": str(folder / "admin.sock")}}}
    return {"node": {"id": "web-1"}, "admin": admin}


def _starts(folder: Path) -> int:
    log = folder / "envoy.log"
    return log.read_text().count("refused") if log.exists() else 0


async def _until(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(5):
        while not condition():
            await CLOCK.sleep(timedelta(milliseconds=1))


async def _nobody_calls() -> None:
    raise AssertionError("there was nothing to leave")
