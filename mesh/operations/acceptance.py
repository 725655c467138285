"""Waiting until the sidecars that a revision concerns run it."""

import asyncio
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import timedelta

from mesh.diagnostics import Diagnostic
from mesh.errors import Unavailable
from mesh.operations.concurrency import closing
from mesh.operations.sidecars import Member, members
from mesh.planning import keyspace
from mesh.ports import Store


@dataclass(frozen=True, slots=True)
class Acceptance:
    """How far the sidecars are, by id; `diagnostics` say why the rejected ones refuse."""

    accepted: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether every sidecar runs the revision."""
        return not self.rejected and not self.pending


Progress = Callable[[Acceptance], None]


async def wait(
    store: Store, ids: Collection[str], revision: int, within: timedelta, progress: Progress
) -> Acceptance:
    """Follow the sidecars `ids` until none is pending or the time is up.

    A sidecar that ends meanwhile is not waited for. `progress` is told of each step.

    Raises:
        Unavailable: the store was out of reach all the time.
    """
    if not ids:
        return Acceptance()
    newest: Acceptance | None = None
    lost = "no answer"
    try:
        async with asyncio.timeout(within.total_seconds()):
            async with closing(store.watch(keyspace.SIDECARS)) as states:
                async for watched in states:
                    if watched.lost is not None:
                        lost = watched.lost
                        continue
                    newest = judge(members(watched.entries), ids, revision)
                    progress(newest)
                    if not newest.pending:
                        break
    except TimeoutError:
        pass  # what is known by now is the answer
    if newest is None:
        raise Unavailable(
            f"revision {revision} is committed, but the store does not answer any more: {lost}",
            "`mesh status` tells how far the sidecars are",
        )
    return newest


def judge(found: Iterable[Member], ids: Collection[str], revision: int) -> Acceptance:
    """Sort the sidecars `ids` by how far they are with `revision`; the silent are left out."""
    accepted, rejected, pending = [], [], []
    diagnostics: list[Diagnostic] = []
    for member in found:
        status = member.status
        if status.id not in ids or not member.is_alive:
            continue
        if status.revision >= revision:
            accepted.append(status.id)
        elif status.seen >= revision and status.rejections:
            rejected.append(status.id)
            diagnostics += status.rejections
        else:
            pending.append(status.id)
    return Acceptance(
        tuple(accepted), tuple(rejected), tuple(pending), tuple(sorted(set(diagnostics)))
    )
