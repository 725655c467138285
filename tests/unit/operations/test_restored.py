from pathlib import Path

import pytest

from mesh.errors import HeadWentBack
from mesh.operations.apply import Terms, apply
from mesh.operations.doctor import Level, check_head
from mesh.operations.history import history, prepare_rollback
from mesh.operations.plan import prepare
from mesh.operations.sidecars import read_members
from mesh.operations.state import read_head
from tests.support.operations import CLOCK, applied, opened, report, service, write
from tests.support.planning import status

ACCEPTING = Terms(accept_restore=True)


async def test_a_commit_on_an_older_store_is_refused_and_told_before(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await applied(store, [write(tmp_path / "p", a=service("api"))])
        await report(store, status("api-1", revision=7, seen=9))
        prepared = await prepare(store, [write(tmp_path / "p", a=service("web"))], "main")
        assert prepared.ahead == 9
        (warning,) = prepared.diagnostics
        assert warning.code == "head-went-back"
        assert "head is revision 1, but sidecars run 9" in warning.message
        with pytest.raises(HeadWentBack, match="head is revision 1, but sidecars run 9") as caught:
            await apply(store, CLOCK, prepared, Terms(), lambda _: None)
        assert "--accept-restore" in caught.value.hint
        assert [item.number for item in await history(store)] == [1]


async def test_who_accepts_commits_above_all_that_runs(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await applied(store, [write(tmp_path / "p", a=service("api"))])
        origin = (await read_head(store))[0]
        await report(store, status("api-1", revision=9, seen=9), alive=False)
        prepared = await prepare(store, [write(tmp_path / "p", a=service("web"))], "main")
        assert (await apply(store, CLOCK, prepared, ACCEPTING, lambda _: None)).revision == 10
        newest = (await history(store))[0]
        assert (newest.number, newest.parent) == (10, 1)
        head, _ = await read_head(store)
        assert head is not None
        assert origin is not None
        assert head.origin == origin.origin == origin.change
        assert (await prepare(store, [str(tmp_path / "p")], "main")).ahead == 0


async def test_the_restored_content_itself_can_be_accepted(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await applied(store, [write(tmp_path / "p", a=service("api"))])
        await report(store, status("api-1", revision=9, seen=9))
        prepared = await prepare_rollback(store, 1, None)
        assert prepared.plan.changes == ()
        assert [item.id for item in prepared.impact] == ["api-1"]
        assert (await apply(store, CLOCK, prepared, ACCEPTING, lambda _: None)).revision == 10


async def test_the_doctor_names_a_store_that_went_back(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await report(store, status("api-1", revision=9, seen=9))
        members = await read_members(store)
    assert list(check_head(members, 9)) == []
    (finding,) = check_head(members, 3)
    assert finding.level is Level.ERROR
    assert finding.message == "head is revision 3, but sidecars run 9: the store went back"
    assert "--accept-restore" in finding.hint
