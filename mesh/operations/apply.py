"""Applying: one plan, one revision, and the sidecars that follow it."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from mesh.errors import InputError, MeshError, NotAccepted
from mesh.model.revision import Revision
from mesh.operations.acceptance import Acceptance, Progress, wait
from mesh.operations.collect import collect, forget_silent
from mesh.operations.commit import Note, commit, stale
from mesh.operations.history import prepare_rollback
from mesh.operations.plan import Prepared, with_impact
from mesh.operations.provenance import author
from mesh.operations.restored import went_back
from mesh.operations.state import read_state
from mesh.planning.plan_file import is_plan_file, read_plan
from mesh.ports import Clock, Store

MAX_PLAN_BYTES = 1 << 30
DEFAULT_SOURCE = "main"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How to apply. `within is None`: do not wait for the sidecars. `author`: who is asked
    otherwise is git, or the operating system. `fence` is as in `commit`. `accept_restore`: the
    store may be older than what sidecars run; the new revision goes above that.
    """

    message: str = ""
    author: str | None = None
    fence: Mapping[str, int] = field(default_factory=dict)
    within: timedelta | None = None
    rollback_on_reject: bool = False
    accept_restore: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a plan: `revision` is head now. `unchanged`: there was nothing to do.

    `restored` is the revision whose content was brought back because a sidecar rejected the
    plan's; `refused` is then the number of the one that was taken back.
    """

    revision: int
    unchanged: bool = False
    waited: bool = True
    acceptance: Acceptance = field(default_factory=Acceptance)
    restored: int | None = None
    refused: int | None = None

    @property
    def is_done(self) -> bool:
        """Whether every sidecar concerned runs what was asked for."""
        return self.restored is None and (self.acceptance.is_complete or not self.waited)


async def load_plan(store: Store, file: Path) -> Prepared:
    """The plan in a file, ready to apply.

    Raises:
        InputError: the file is damaged, or no plan.
        StalePlan: head moved since the plan was made.
    """
    plan = read_plan(await asyncio.to_thread(_read, file))
    state = await read_state(store)
    if (plan.base, plan.base_change) != (state.number, state.change):
        raise stale(plan.base, state.head)
    return await with_impact(store, plan, state)


def names_plan_file(path: str) -> bool:
    """Whether the path is a plan file, by its first bytes. Blocks."""
    file = Path(path)
    try:
        if not file.is_file():
            return False
        with file.open("rb") as stream:
            return is_plan_file(stream.read(64))
    except OSError:
        return False


async def apply(
    store: Store, clock: Clock, prepared: Prepared, terms: Terms, progress: Progress
) -> Outcome:
    """Commit a plan and follow the sidecars that it concerns. `progress` is first told of all of
    them, when the commit is done.

    Raises:
        StalePlan: head moved; nothing was written.
        HeadWentBack: the store is older than what sidecars run, and `terms` do not accept that.
        OutcomeUnknown: the store fell silent during the commit.
        NotAccepted: it was rejected, and could not be taken back as `terms` ask.
        Unavailable: the store fell silent behind the commit.
    """
    plan = prepared.plan
    if prepared.ahead and not terms.accept_restore:
        raise went_back(plan.base, prepared.ahead)
    if not plan.changes and not prepared.ahead:
        return Outcome(revision=plan.base, unchanged=True)
    who = await asyncio.to_thread(author) if terms.author is None else terms.author
    note = Note(
        author=who,
        message=terms.message,
        source=plan.source or "*",
    )
    revision = await commit(
        store, clock, prepared.state, plan, note, fence=terms.fence, above=prepared.ahead
    )
    ids = tuple(status.id for status in prepared.impact)
    progress(Acceptance(pending=ids))
    await _collect(store, clock)
    if terms.within is None:
        acceptance = Acceptance(pending=ids)
        return Outcome(revision=revision.number, waited=False, acceptance=acceptance)
    acceptance = await wait(store, ids, revision.number, terms.within, progress)
    if acceptance.rejected and terms.rollback_on_reject:
        return await _take_back(store, clock, plan.base, revision.number, acceptance)
    return Outcome(revision=revision.number, acceptance=acceptance)


async def _take_back(
    store: Store, clock: Clock, base: int, refused: int, acceptance: Acceptance
) -> Outcome:
    """Bring back the content of `base`; only if head is still the revision that was refused.

    Raises:
        NotAccepted: that failed, or somebody committed meanwhile: their revision stays.
    """
    try:
        revision = await _restore(store, clock, base, refused)
    except MeshError as error:
        raise NotAccepted(
            f"revision {refused} is committed, was rejected by {', '.join(acceptance.rejected)} "
            f"and could not be taken back: {error.message}",
            "`mesh status` shows who rejects it; `mesh rollback` goes back",
        ) from error
    return Outcome(revision=revision.number, acceptance=acceptance, restored=base, refused=refused)


async def _restore(store: Store, clock: Clock, base: int, refused: int) -> Revision:
    prepared = await prepare_rollback(store, base, None)
    if prepared.state.number != refused:
        raise stale(refused, prepared.state.head)
    note = Note(
        author=await asyncio.to_thread(author),
        message=f"roll back to {base}: a sidecar rejected {refused}",
        source="*",
    )
    return await commit(store, clock, prepared.state, prepared.plan, note)


async def _collect(store: Store, clock: Clock) -> None:
    """Clean up behind the commit; a store that fails now fails nobody: the next apply does it."""
    try:
        await collect(store)
        await forget_silent(store, clock.now())
    except MeshError:
        return


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_PLAN_BYTES + 1)
    except OSError as error:
        raise InputError(f'the plan file "{file}" cannot be read: {error.strerror}') from error
    if len(data) > MAX_PLAN_BYTES:
        raise InputError(f'the plan file "{file}" is larger than {MAX_PLAN_BYTES} bytes')
    return data
