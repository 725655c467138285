"""A look at the repository, and what becomes of the mesh."""

from pathlib import Path

import pytest

from mesh.errors import Drifted, Held, LeaseLost, NotFound, OutsideError, RefusedCommit
from mesh.model.source import SyncState
from mesh.operations.apply import Terms, apply
from mesh.operations.history import history, prepare_rollback
from mesh.operations.sources import read_source
from mesh.operations.state import read_state
from mesh.planning import keyspace
from mesh.ports import Store
from mesh.sync.options import Drift
from tests.support.operations import CLOCK, access, applied, service, write
from tests.support.repositories import AUTHOR, Origin
from tests.support.signing import Signer
from tests.support.syncs import following


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin.make(tmp_path / "origin")


async def names(store: Store) -> set[str]:
    return {key.name for key in (await read_state(store)).manifest}


async def roll_back(store: Store, number: int, source: str | None = None) -> int:
    prepared = await prepare_rollback(store, number, source)
    return (await apply(store, CLOCK, prepared, Terms(message="back"), lambda _: None)).revision


async def test_a_commit_becomes_a_revision_with_its_author(origin: Origin, tmp_path: Path):
    id = origin.commit("add api", a=service("api"))
    async with following(origin, tmp_path) as sync:
        looked = await sync.look()
        assert looked.error is None
        status = looked.status
        assert (status.state, status.applied, status.revision) == (SyncState.SYNCED, id, 1)
        (revision,) = await history(sync.store)
        assert (revision.commit, revision.author, revision.message) == (id, AUTHOR, "add api")
        (entry,) = (await read_state(sync.store)).manifest.values()
        assert entry.file == "policies/a.yaml"
        assert (await sync.look()).status.revision == 1
        assert len(await history(sync.store)) == 1


async def test_a_bad_commit_changes_nothing_and_the_next_good_one_heals(
    origin: Origin, tmp_path: Path
):
    good = origin.commit("good", a=service("api"))
    async with following(origin, tmp_path) as sync:
        await sync.look()
        bad = origin.commit("bad", b="kind: Service\n", a=service("web"))
        looked = await sync.look()
        status = looked.status
        assert status.state is SyncState.REFUSED
        assert (status.applied, status.commit and status.commit.id) == (good, bad)
        assert {item.position.file for item in status.diagnostics} == {"policies/b.yaml"}
        assert await names(sync.store) == {"api"}
        assert await read_source(sync.store, "main") == status
        healed = origin.commit("mended", b=service("stock"))
        status = (await sync.look()).status
        assert (status.state, status.applied) == (SyncState.SYNCED, healed)
        assert (status.code, status.diagnostics) == ("", ())
        assert await names(sync.store) == {"web", "stock"}


async def test_a_revert_and_a_rewritten_history_are_applied_as_they_are(
    origin: Origin, tmp_path: Path
):
    first = origin.commit("one", a=service("api"))
    async with following(origin, tmp_path) as sync:
        await sync.look()
        origin.commit("two", b=service("stock"))
        await sync.look()
        origin.git("revert", "--no-edit", "HEAD")
        assert (await sync.look()).status.state is SyncState.SYNCED
        assert await names(sync.store) == {"api"}
        origin.commit("three", c=service("web"))
        await sync.look()
        origin.git("reset", "--quiet", "--hard", first)
        status = (await sync.look()).status
        assert (status.state, status.applied) == (SyncState.SYNCED, first)
        assert await names(sync.store) == {"api"}


async def test_a_deleted_branch_and_a_lost_repository_keep_what_is_applied(
    origin: Origin, tmp_path: Path
):
    id = origin.commit("one", a=service("api"))
    async with following(origin, tmp_path) as sync:
        checked = (await sync.look()).status.checked
        origin.git("branch", "--move", "main", "trunk")
        looked = await sync.look()
        assert isinstance(looked.error, NotFound)
        assert (looked.status.state, looked.status.applied) == (SyncState.REFUSED, id)
        origin.folder.rename(tmp_path / "moved")
        looked = await sync.look()
        assert isinstance(looked.error, OutsideError)
        assert looked.status.state is SyncState.UNREACHABLE
        assert looked.status.checked is not None
        assert checked is not None
        assert looked.status.checked >= checked  # the last time that it did answer
        assert (await sync.look()).status.checked == looked.status.checked
        (tmp_path / "moved").rename(origin.folder)
        origin.git("branch", "--move", "trunk", "main")
        assert (await sync.look()).status.state is SyncState.SYNCED
        assert await names(sync.store) == {"api"}


async def test_no_documents_are_refused_unless_they_are_meant(origin: Origin, tmp_path: Path):
    origin.commit("one", a=service("api"))
    async with following(origin, tmp_path) as sync:
        await sync.look()
        origin.commit("nothing left", a=None)
        looked = await sync.look()
        assert looked.status.state is SyncState.REFUSED
        assert "no document" in looked.status.message
        assert "--allow-empty" in looked.status.hint
        assert await names(sync.store) == {"api"}
        sync.again(allow_empty=True)
        assert (await sync.look()).status.state is SyncState.SYNCED
        assert await names(sync.store) == set()


async def test_links_and_submodules_are_refused_by_name(origin: Origin, tmp_path: Path):
    origin.commit("one", a=service("api"))
    (origin.folder / "policies" / "out.yaml").symlink_to("../../../etc/passwd")
    id = origin.commit("link", a=service("web"))
    origin.git("update-index", "--add", "--cacheinfo", f"160000,{id},policies/vendor")
    origin.git("commit", "--quiet", "--message", "submodule")
    async with following(origin, tmp_path) as sync:
        status = (await sync.look()).status
        assert status.state is SyncState.REFUSED
        assert [(item.position.file, item.code) for item in status.diagnostics] == [
            ("policies/out.yaml", "not-followed"),
            ("policies/vendor", "not-followed"),
        ]
        assert await names(sync.store) == set()


async def test_hidden_files_and_what_is_no_yaml_are_left_out(origin: Origin, tmp_path: Path):
    hidden = origin.folder / "policies" / ".cache"
    hidden.mkdir(parents=True)
    (hidden / "x.yaml").write_text("no policy")
    (hidden / "link.yaml").symlink_to("/etc/passwd")
    (origin.folder / "policies" / "README.md").write_text("words")
    (origin.folder / "other.yaml").write_text("no policy")
    origin.commit("one", a=service("api"))
    async with following(origin, tmp_path) as sync:
        assert (await sync.look()).status.state is SyncState.SYNCED
        assert await names(sync.store) == {"api"}


@pytest.mark.parametrize("drift", list(Drift))
async def test_what_was_applied_by_hand_is_shown_repaired_or_left(
    origin: Origin, tmp_path: Path, drift: Drift
):
    origin.commit("one", a=service("api"))
    by_hand = write(tmp_path / "hand", b=service("stock"))
    async with following(origin, tmp_path, drift=drift) as sync:
        await sync.look()
        await applied(sync.store, [by_hand])
        looked = await sync.look()
        if drift is Drift.REPAIR:
            assert looked.status.state is SyncState.SYNCED
            assert await names(sync.store) == {"api"}
            return
        assert await names(sync.store) == {"stock"}
        if drift is Drift.LEAVE:
            assert looked.status.state is SyncState.SYNCED
            return
        assert looked.status.state is SyncState.DRIFTED
        assert isinstance(looked.error, Drifted)
        told = [item.message for item in looked.status.diagnostics]
        assert told == [
            "Service default/api is in the commit and not in the mesh",
            "Service default/stock is in the mesh and not in the commit",
        ]
        again = await sync.look()
        assert again.status.state is SyncState.DRIFTED
        assert isinstance(again.error, Drifted)
        origin.commit("two", a=service("api"), b=service("stock"))
        assert (await sync.look()).status.state is SyncState.SYNCED
        assert await names(sync.store) == {"api", "stock"}


@pytest.mark.parametrize("source", [None, "main"])
async def test_after_a_rollback_the_source_is_held_until_a_newer_commit(
    origin: Origin, tmp_path: Path, source: str | None
):
    origin.commit("one", a=service("api"))
    # Repairing drift must not undo what a person decided.
    async with following(origin, tmp_path, drift=Drift.REPAIR) as sync:
        await sync.look()
        origin.commit("two", b=service("stock"))
        await sync.look()
        assert await roll_back(sync.store, 1, source) == 3
        for _ in range(2):
            looked = await sync.look()
            assert looked.status.state is SyncState.HELD
            assert looked.status.held == 3
            assert isinstance(looked.error, Held)
            sync.again(drift=Drift.REPAIR)  # a restart forgets nothing
        assert await names(sync.store) == {"api"}
        origin.folder.rename(tmp_path / "moved")
        assert (await sync.look()).status.state is SyncState.UNREACHABLE
        (tmp_path / "moved").rename(origin.folder)
        assert (await sync.look()).status.state is SyncState.HELD
        origin.commit("three", c=service("web"))
        assert (await sync.look()).status.state is SyncState.SYNCED
        assert await names(sync.store) == {"api", "stock", "web"}


async def test_resume_applies_what_was_rolled_back_once(origin: Origin, tmp_path: Path):
    origin.commit("one", a=service("api"))
    async with following(origin, tmp_path) as sync:
        await sync.look()
        origin.commit("two", b=service("stock"))
        await sync.look()
        await roll_back(sync.store, 1)
        assert (await sync.look()).status.state is SyncState.HELD
        sync.again(resume=True)
        assert (await sync.look()).status.state is SyncState.SYNCED
        assert await names(sync.store) == {"api", "stock"}
        await roll_back(sync.store, 1)
        assert (await sync.look()).status.state is SyncState.HELD


async def test_a_rollback_of_another_source_holds_nothing(origin: Origin, tmp_path: Path):
    origin.commit("one", a=service("api"))
    other = tmp_path / "other"
    async with following(origin, tmp_path) as sync:
        await sync.look()
        await applied(sync.store, [write(other, b=service("stock"))], "team")
        await applied(sync.store, [write(other, b=service("web"))], "team")
        await roll_back(sync.store, 2, "team")
        assert (await sync.look()).status.state is SyncState.SYNCED
        assert await names(sync.store) == {"api", "stock"}


async def test_a_commit_that_lacks_what_another_source_brings_is_tried_again(
    origin: Origin, tmp_path: Path
):
    origin.commit("one", a=access("api", "web"))
    async with following(origin, tmp_path) as sync:
        status = (await sync.look()).status
        assert status.state is SyncState.REFUSED
        assert status.diagnostics[0].code == "unknown-target"
        await applied(sync.store, [write(tmp_path / "other", a=service("api"))], "team")
        assert (await sync.look()).status.state is SyncState.SYNCED


async def test_only_signed_commits_are_applied_where_that_is_required(
    origin: Origin, tmp_path: Path
):
    ann = Signer.make(tmp_path / "ann")
    signers = ann.allow(tmp_path / "allowed")
    origin.commit("unsigned", a=service("api"))
    async with following(origin, tmp_path, require_signature=True, signers=signers) as sync:
        looked = await sync.look()
        assert isinstance(looked.error, RefusedCommit)
        assert looked.status.state is SyncState.REFUSED
        assert await names(sync.store) == set()
        ann.sign(origin)
        origin.commit("signed", b=service("stock"))
        assert (await sync.look()).status.state is SyncState.SYNCED
        assert await names(sync.store) == {"api", "stock"}


async def test_who_lost_the_lead_writes_nothing(origin: Origin, tmp_path: Path):
    origin.commit("one", a=service("api"))
    async with following(origin, tmp_path) as sync:
        sync.follower.fence = {keyspace.sync("main", keyspace.LEADER): 7}
        with pytest.raises(LeaseLost):
            await sync.look()
        assert await history(sync.store) == ()
