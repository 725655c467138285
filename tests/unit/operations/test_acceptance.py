"""Waiting for the sidecars that a revision concerns."""

import asyncio
from datetime import timedelta
from pathlib import Path

from mesh.diagnostics import Diagnostic, Position, Severity
from mesh.operations.acceptance import Acceptance, judge, wait
from mesh.operations.sidecars import Member
from mesh.planning import keyspace
from mesh.ports import Transaction
from tests.support.operations import opened, report
from tests.support.planning import status

NACK = Diagnostic(Position("web.yaml", 12), Severity.ERROR, "rejected-by-envoy", "no")
SOON = timedelta(seconds=20)
NOW = timedelta(milliseconds=50)


def member(
    id: str, revision: int, seen: int, *rejections: Diagnostic, alive: bool = True
) -> Member:
    return Member(status(id, revision=revision, seen=seen, rejections=rejections), alive)


def test_sidecars_are_accepted_rejected_or_pending():
    found = judge(
        [
            member("new", 8, 8),
            member("done", 7, 7),
            member("nack", 6, 7, NACK),
            member("old-nack", 5, 6, NACK),
            member("slow", 6, 6),
            member("dead", 6, 6, alive=False),
            member("stranger", 1, 1),
        ],
        {"new", "done", "nack", "old-nack", "slow", "dead"},
        7,
    )
    assert found == Acceptance(("new", "done"), ("nack",), ("old-nack", "slow"), (NACK,))
    assert not found.is_complete


async def test_with_nobody_to_wait_for_it_is_done(tmp_path: Path):
    async with opened(tmp_path) as store:
        assert await wait(store, (), 1, NOW, lambda _: None) == Acceptance()


async def test_it_waits_until_the_last_one_runs_it(tmp_path: Path):
    async with opened(tmp_path) as store:
        await report(store, status("a", revision=1))
        await report(store, status("b", revision=2, seen=2))
        seen: list[Acceptance] = []
        first = asyncio.Event()

        def progress(found: Acceptance) -> None:
            seen.append(found)
            first.set()

        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(wait(store, {"a", "b"}, 2, SOON, progress))
            await first.wait()
            await report(store, status("a", revision=2, seen=2))
        assert waiting.result().accepted == ("a", "b")
        assert seen[0].pending == ("a",)


async def test_time_runs_out_with_what_is_known(tmp_path: Path):
    async with opened(tmp_path) as store:
        await report(store, status("a", revision=1))
        found = await wait(store, {"a"}, 2, NOW, lambda _: None)
        assert found.pending == ("a",)


async def test_a_rejection_ends_the_wait_when_nobody_else_is_pending(tmp_path: Path):
    async with opened(tmp_path) as store:
        await report(store, status("a", revision=1, seen=2, rejections=(NACK,)))
        found = await wait(store, {"a"}, 2, SOON, lambda _: None)
        assert (found.rejected, found.diagnostics) == (("a",), (NACK,))


async def test_a_sidecar_that_ends_is_not_waited_for(tmp_path: Path):
    async with opened(tmp_path) as store:
        await report(store, status("a", revision=1))
        first = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(wait(store, {"a"}, 2, SOON, lambda _: first.set()))
            await first.wait()
            gone = (keyspace.sidecar("a", keyspace.STATUS), keyspace.sidecar("a", keyspace.ALIVE))
            await store.commit(Transaction(deletes=gone))
        assert waiting.result() == Acceptance()
