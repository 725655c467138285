"""A few of `python -m tests.faults`, short: what must hold on every commit."""

import pytest

from tests.faults import stores  # noqa: F401 (fills the catalogue)
from tests.faults.catalogue import FAULTS, run
from tests.faults.kills import killed


@pytest.mark.parametrize("name", ["etcd-quorum-lost", "etcd-restored"])
async def test_no_request_fails_and_nothing_acknowledged_is_lost(name: str) -> None:
    row = await run(FAULTS[name], lasting=6.0)
    assert (row.failed, row.lost) == (0, 0), row
    assert row.requests > 100
    assert row.noticed is not None


@pytest.mark.parametrize("store", ["sqlite", "etcd"])
async def test_an_apply_that_is_killed_leaves_the_old_set_or_the_new_one(store: str) -> None:
    count = await killed(store, ["129"], points=6)
    assert (count.points, count.half, count.lost) == (6, 0, 0), count
    assert count.old
