"""git runs without a terminal, in bounds of time and output, in our repository alone."""

import asyncio
import os
from pathlib import Path

import pytest

from mesh.adapters.git.program import Program, environment
from mesh.errors import OutsideError, RefusedCommit, Unavailable


def script(folder: Path, text: str) -> str:
    """A program in the place of git."""
    file = folder / "git"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return str(file)


def test_the_environment_leads_to_no_other_repository(tmp_path: Path):
    inherited = {
        "PATH": "/bin",
        "GIT_DIR": "/elsewhere",
        "GIT_WORK_TREE": "/elsewhere",
        "GIT_OBJECT_DIRECTORY": "/elsewhere",
        "GIT_SSH_COMMAND": "ssh -i key",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "http.proxy",
        "GIT_CONFIG_VALUE_0": "http://proxy",
    }
    found = environment(inherited, tmp_path, {"gc.auto": "0"})
    assert found["GIT_DIR"] == str(tmp_path)
    assert "GIT_WORK_TREE" not in found
    assert "GIT_OBJECT_DIRECTORY" not in found
    # What the user configured stays, ours comes last and wins.
    assert found["GIT_SSH_COMMAND"] == "ssh -i key"
    assert (found["GIT_CONFIG_COUNT"], found["GIT_CONFIG_KEY_0"]) == ("2", "http.proxy")
    assert (found["GIT_CONFIG_KEY_1"], found["GIT_CONFIG_VALUE_1"]) == ("gc.auto", "0")
    assert found["GIT_TERMINAL_PROMPT"] == "0"


async def test_it_has_no_terminal_to_ask_on(tmp_path: Path):
    git = Program(tmp_path, {}, script(tmp_path, "if (: < /dev/tty) 2>&-; then echo asks; fi"))
    answer = await git.run("x", seconds=10, most_bytes=100)
    assert answer.output == b""


async def test_time_is_bounded_and_children_end_with_it(tmp_path: Path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    # The child holds the pipe open: who reads sees its end when the child is gone.
    git = Program(tmp_path, {}, script(tmp_path, f"sh -c 'exec 3<>{pipe}; read x <&3' & wait"))
    end = asyncio.get_running_loop().run_in_executor(None, pipe.read_bytes)
    with pytest.raises(Unavailable, match=r"git fetch.*0\.3 s"):
        await git.run("fetch", seconds=0.3, most_bytes=100)
    async with asyncio.timeout(10):
        assert await end == b""


async def test_output_is_bounded(tmp_path: Path):
    git = Program(tmp_path, {}, script(tmp_path, "yes"))
    with pytest.raises(RefusedCommit, match="more than 1000 bytes"):
        await git.run("ls-tree", seconds=10, most_bytes=1000)


async def test_what_it_writes_is_bounded(tmp_path: Path):
    git = Program(tmp_path, {}, script(tmp_path, "head -c 100000 /dev/zero > big"))
    answer = await git.run("fetch", seconds=10, most_bytes=100, file_bytes=4096)
    assert answer.code != 0
    assert (tmp_path / "big").stat().st_size <= 4096


async def test_a_machine_without_git_is_told(tmp_path: Path):
    with pytest.raises(OutsideError, match="cannot be run") as missing:
        await Program(tmp_path, {}, "no-such-git").run("x", seconds=1, most_bytes=1)
    assert "install git" in missing.value.hint
