"""How far every sidecar is."""

import asyncio
from pathlib import Path

import pytest

from mesh.diagnostics import Diagnostic, Position, Severity
from mesh.model.status import SidecarState
from mesh.operations.sidecars import Member
from mesh.operations.status import Status, follow, status
from tests.support import planning
from tests.support.operations import applied, opened, report, service, write

NACK = Diagnostic(Position("web.yaml", 12), Severity.ERROR, "rejected-by-envoy", "no", "mend it")


@pytest.mark.parametrize(
    ("changes", "alive", "state", "message"),
    [
        ({"revision": 7, "seen": 7}, True, SidecarState.IN_SYNC, ""),
        ({"revision": 6, "seen": 6}, True, SidecarState.PENDING, ""),
        (
            {"revision": 6, "seen": 7, "rejections": (NACK,)},
            True,
            SidecarState.REJECTED,
            "web.yaml:12:1: error[rejected-by-envoy]: no",
        ),
        ({"revision": 7, "seen": 7}, False, SidecarState.STALE, "silent since"),
        ({"revision": 7, "seen": 7, "stale": "no Consul"}, True, SidecarState.STALE, "no Consul"),
    ],
)
def test_a_reader_makes_a_state_of_a_report(changes, alive, state, message):
    member = Member(planning.status("a", **changes), alive)
    assert member.state(7) is state
    assert member.message.startswith(message)
    assert bool(member.message) is bool(message)


async def test_the_status_is_head_and_every_sidecar(tmp_path: Path):
    async with opened(tmp_path) as store:
        assert await status(store) == Status(0, ())
        await applied(store, [write(tmp_path / "p", a=service("api"))])
        await report(store, planning.status("b"))
        await report(store, planning.status("a"), alive=False)
        found = await status(store)
        assert found.head == 1
        assert [(item.status.id, item.is_alive) for item in found.members] == [
            ("a", False),
            ("b", True),
        ]


async def test_following_shows_each_change(tmp_path: Path):
    async with opened(tmp_path) as store:
        shown: asyncio.Queue[Status] = asyncio.Queue()
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            following = group.create_task(follow(store, shown.put_nowait))
            assert await shown.get() == Status(0, ())
            await applied(store, [write(tmp_path / "p", a=service("api"))])
            assert (await shown.get()).head == 1
            await report(store, planning.status("a"))
            assert len((await shown.get()).members) == 1
            following.cancel()
