"""When a commit is applied, held, shown or left."""

from dataclasses import replace
from datetime import timedelta

import pytest

from mesh.model.revision import Revision
from mesh.model.source import GitCommit, SourceStatus, SyncState
from mesh.sync.judgement import Case, Verdict, judge, rollback
from mesh.sync.options import Drift
from tests.support.manual_clock import EPOCH

COMMIT = GitCommit(id="a" * 40, author="Ann <a@x>", subject="s", time=EPOCH)
NEWER = replace(COMMIT, id="b" * 40)
LAST = SourceStatus(
    source="shop",
    repository="r",
    branch="main",
    path="",
    state=SyncState.SYNCED,
    commit=COMMIT,
    applied=COMMIT.id,
    revision=3,
    head=3,
    since=EPOCH,
)
CASE = Case(commit=COMMIT, last=LAST, differs=True, held=0, drift=Drift.SHOW, resume=False)


def test_what_does_not_differ_is_settled_whatever_else_is_so():
    for case in (CASE, replace(CASE, held=4), replace(CASE, resume=True), replace(CASE, last=None)):
        assert judge(replace(case, differs=False)) is Verdict.SETTLED


def test_a_commit_that_was_not_seen_before_is_applied_also_after_a_rollback():
    assert judge(replace(CASE, commit=NEWER)) is Verdict.APPLY
    assert judge(replace(CASE, commit=NEWER, held=4)) is Verdict.APPLY
    assert judge(replace(CASE, last=None)) is Verdict.APPLY


def test_the_same_commit_is_held_after_a_rollback_until_it_is_resumed():
    for drift in Drift:
        assert judge(replace(CASE, held=4, drift=drift)) is Verdict.HOLD
    assert judge(replace(CASE, held=4, resume=True)) is Verdict.APPLY


@pytest.mark.parametrize(
    ("drift", "verdict"),
    [
        (Drift.SHOW, Verdict.SHOW),
        (Drift.REPAIR, Verdict.APPLY),
        (Drift.LEAVE, Verdict.SETTLED),
    ],
)
def test_drift_is_as_configured(drift: Drift, verdict: Verdict):
    assert judge(replace(CASE, drift=drift)) is verdict


def test_a_commit_that_could_not_be_applied_is_tried_again_and_is_no_drift():
    refused = replace(LAST, state=SyncState.REFUSED, commit=NEWER)
    assert judge(replace(CASE, commit=NEWER, last=refused)) is Verdict.APPLY
    assert judge(replace(CASE, commit=NEWER, last=refused, held=4)) is Verdict.HOLD


def test_a_rollback_of_the_source_or_of_the_whole_mesh_counts():
    revision = Revision(
        number=5,
        parent=4,
        time=EPOCH + timedelta(seconds=1),
        author="a",
        message="m",
        source="shop",
        commit=None,
        created=0,
        updated=1,
        deleted=0,
        restores=2,
    )
    assert rollback([revision], "shop") == 5
    assert rollback([replace(revision, source="*")], "shop") == 5
    assert rollback([replace(revision, source="other")], "shop") == 0
    assert rollback([replace(revision, restores=None)], "shop") == 0
    assert rollback([revision, replace(revision, number=7)], "shop") == 7
