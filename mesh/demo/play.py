"""Run the demo: tell the story, then stay up until Ctrl-C (or end at once)."""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from mesh.demo.stage import Stage
from mesh.demo.story import Say, Story
from mesh.errors import MeshError, NotFound

INTERRUPTED = 130
PACKAGED = Path(__file__).parent / "policies"
CHECKOUT = Path(__file__).parents[2] / "policies" / "shop"


async def play(*, once: bool, say: Say) -> int:
    """Tell the story; the exit code: 1 if a check failed, 130 if it was interrupted. Without
    `once` it then waits for SIGINT or SIGTERM. Nothing that it started outlives it.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with Stage() as stage:
        story = Story(stage, _policies(), say)
        telling = await _until(story, stop)
        if telling and not once:
            _invite(story, say)
            await stop.wait()
        say("\nstopping: draining the sidecars, ending every process" if not once else "")
    for what in story.failed:
        say(f"failed: {what}")
    if not telling:
        say("demo: interrupted")
        return INTERRUPTED
    say("demo: not all was well" if story.failed else "demo: all checks passed")
    return 1 if story.failed else 0


async def _until(story: Story, stop: asyncio.Event) -> bool:
    """Tell the whole story unless `stop` comes first; whether it was told to its end."""
    async with asyncio.TaskGroup() as group:
        teller = group.create_task(_tell(story))
        stopper = group.create_task(stop.wait())
        await asyncio.wait({teller, stopper}, return_when=asyncio.FIRST_COMPLETED)
        stopper.cancel()
        told = teller.done()
        teller.cancel()
    return told


async def _tell(story: Story) -> None:
    try:
        await story.tell()
    except* MeshError as errors:
        for error in errors.exceptions:
            story.check(str(error), False, getattr(error, "hint", ""))


def _policies() -> Path:
    for folder in (PACKAGED, CHECKOUT):
        if folder.is_dir():
            return folder
    raise NotFound("the demo's policies are missing", "reinstall mesh")


def settings_to_export(state: Path, environment: Mapping[str, str]) -> list[str]:
    """What another terminal needs to speak to this mesh, `mesh` itself included: `make demo`
    puts it where no PATH leads.
    """
    lines = [f"export MESH_STATE={state}"]
    folder = Path(sys.executable).parent
    found = shutil.which("mesh", path=environment.get("PATH", ""))
    if found is None or Path(found).parent != folder:
        lines.append(f'export PATH="{folder}:$PATH"')
    return lines


def _invite(story: Story, say: Say) -> None:
    web = story.stage.members["web-v1"]
    say("\nThe shop stays open. In another terminal:")
    for line in settings_to_export(story.stage.state, os.environ):
        say(f"  {line}")
    say(f"  curl {story.front}")
    say(f"  curl -H 'host: api' http://{web.outbound}/items      # as web, through its sidecar")
    say("  mesh status")
    say("  mesh describe Service api")
    say(f"  mesh apply {story.policies} --yes")
    say("Ctrl-C ends everything and leaves nothing behind.")
