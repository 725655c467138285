"""What to do about a commit: a pure decision."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto

from mesh.model.revision import Revision
from mesh.model.source import GitCommit, SourceStatus
from mesh.sync.options import Drift


class Verdict(Enum):
    """SETTLED: the mesh has what the commit says, or shall keep what it has instead. APPLY the
    commit. HOLD: somebody rolled it back. SHOW: somebody applied something else by hand.
    """

    SETTLED = auto()
    APPLY = auto()
    HOLD = auto()
    SHOW = auto()


_DRIFTED = {
    Drift.REPAIR: Verdict.APPLY,
    Drift.SHOW: Verdict.SHOW,
    Drift.LEAVE: Verdict.SETTLED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """`differs`: the commit's documents are not the source's. `held`: the rollback, or 0."""

    commit: GitCommit
    last: SourceStatus | None
    differs: bool
    held: int
    drift: Drift
    resume: bool


def judge(case: Case) -> Verdict:
    """A commit that was not seen before is applied, whatever came before it: the branch decides.

    The same commit again is applied if it could not be before, held after a rollback, and drift
    otherwise.
    """
    if not case.differs:
        return Verdict.SETTLED
    if case.resume or is_new(case.commit, case.last):
        return Verdict.APPLY
    if case.held:
        return Verdict.HOLD
    if case.last is None or case.last.applied != case.commit.id:
        return Verdict.APPLY
    return _DRIFTED[case.drift]


def is_new(commit: GitCommit, last: SourceStatus | None) -> bool:
    """Whether the last report was of another commit, or there is none."""
    return last is None or last.commit is None or last.commit.id != commit.id


def rollback(revisions: Iterable[Revision], source: str) -> int:
    """The newest of the revisions that rolled the source back, or 0."""
    numbers = (
        revision.number
        for revision in revisions
        if revision.restores is not None and revision.source in (source, "*")
    )
    return max(numbers, default=0)
