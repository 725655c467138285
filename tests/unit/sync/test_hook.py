"""The command that is told: what it gets, and that it cannot hold anything up."""

import os
from dataclasses import replace
from pathlib import Path

from mesh.model.source import SourceStatus, SyncState
from mesh.sync.hook import Hook
from tests.support.manual_clock import EPOCH

STATUS = SourceStatus(
    source="main", repository="r", branch="main", path="", state=SyncState.REFUSED, since=EPOCH
)


def encode(status: SourceStatus) -> bytes:
    return status.state.value.encode()


async def test_the_report_is_on_standard_input(tmp_path: Path):
    file = tmp_path / "out"
    await Hook(["sh", "-c", 'cat > "$0"', str(file)], encode).run_once(STATUS)
    assert file.read_text() == "refused"


async def test_words_are_arguments_and_no_shell_reads_them(tmp_path: Path):
    file = tmp_path / "a; touch b"
    await Hook(["touch", str(file)], encode).run_once(STATUS)
    assert os.listdir(tmp_path) == [file.name]  # noqa: PTH208


async def test_one_that_hangs_is_ended_with_its_children():
    await Hook(["sh", "-c", "read x < /dev/zero | cat /dev/zero"], encode, 0.3).run_once(STATUS)


async def test_one_that_fails_or_is_not_there_is_no_error():
    await Hook(["false"], encode).run_once(STATUS)
    await Hook(["no-such-command-here"], encode).run_once(STATUS)
    # Nor one that does not want to know.
    large = Hook(["true"], lambda _: bytes(1 << 20))
    await large.run_once(STATUS)


def test_only_what_is_not_good_is_told_and_the_queue_is_bounded():
    hook = Hook(["true"], encode)
    hook.tell(replace(STATUS, state=SyncState.SYNCED))
    for _ in range(100):
        hook.tell(STATUS)
