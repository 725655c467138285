"""A branch, fetched from real repositories on this disk."""

import os
import random
import shutil
from pathlib import Path

import pytest

from mesh.adapters.git import GitOptions, GitRepository, Limits
from mesh.errors import MeshError, NotFound, RefusedCommit, Unavailable, UsageError
from mesh.model.source import BlobKind
from tests.support.repositories import AUTHOR, Origin
from tests.support.signing import Signer, key_ring


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin.make(tmp_path / "origin")


def repository(origin: Origin, tmp_path: Path, **limits: int) -> GitRepository:
    options = GitOptions(url=origin.url, limits=Limits(**limits))
    return GitRepository(tmp_path / "cache" / "main", options)


async def contents(git: GitRepository, path: str = "policies") -> dict[str, bytes]:
    blobs = await git.blobs(await git.newest(), path)
    found = await git.read(blobs)
    return {blob.name: found[blob.id] for blob in blobs}


async def test_the_newest_commit_is_told_with_its_author(origin: Origin, tmp_path: Path):
    origin.commit("first", a="1")
    id = origin.commit("second \x1b[31mred", a="2")
    async with repository(origin, tmp_path) as git:
        commit = await git.newest()
        assert commit.id == id
        assert commit.author == AUTHOR
        assert commit.subject == "second  [31mred"
        assert commit.time.tzinfo is not None


async def test_files_come_with_their_content_by_name(origin: Origin, tmp_path: Path):
    origin.commit("first", a="one", b="two", same="one")
    async with repository(origin, tmp_path) as git:
        expected = {"a": b"one", "b": b"two", "same": b"one"}
        assert await contents(git) == {
            f"policies/{name}.yaml": data for name, data in expected.items()
        }
        assert await contents(git, "policies/b.yaml") == {"policies/b.yaml": b"two"}
        assert (await contents(git, "")).keys() == (await contents(git)).keys()
        assert await contents(git, "none") == {}


async def test_only_what_is_below_the_path_is_fetched(origin: Origin, tmp_path: Path):
    (origin.folder / "large.bin").write_bytes(bytes(range(256)) * 4096)
    origin.commit("first", a="one")
    async with repository(origin, tmp_path) as git:
        assert await contents(git) == {"policies/a.yaml": b"one"}
    packs = (tmp_path / "cache").rglob("*.pack")
    assert sum(pack.stat().st_size for pack in packs) < 10_000


async def test_a_server_that_cannot_filter_sends_everything(origin: Origin, tmp_path: Path):
    origin.git("config", "uploadpack.allowFilter", "false")
    origin.commit("first", a="one")
    async with repository(origin, tmp_path) as git:
        assert await contents(git) == {"policies/a.yaml": b"one"}


async def test_links_and_submodules_are_named_and_not_followed(origin: Origin, tmp_path: Path):
    origin.commit("first", a="one")
    (origin.folder / "policies" / "passwd.yaml").symlink_to("/etc/passwd")
    id = origin.git("rev-parse", "HEAD")
    origin.git("update-index", "--add", "--cacheinfo", f"160000,{id},policies/vendor")
    origin.git("add", "policies/passwd.yaml")
    origin.git("commit", "--quiet", "--message", "links")
    async with repository(origin, tmp_path) as git:
        blobs = await git.blobs(await git.newest(), "policies")
        assert [(blob.name, blob.kind) for blob in blobs] == [
            ("policies/a.yaml", BlobKind.FILE),
            ("policies/passwd.yaml", BlobKind.LINK),
            ("policies/vendor", BlobKind.SUBMODULE),
        ]
        assert list((await git.read(blobs)).values()) == [b"one"]
        (link,) = await git.blobs(await git.newest(), "policies/passwd.yaml")
        assert link.kind is BlobKind.LINK


async def test_names_may_be_anything_that_git_takes(origin: Origin, tmp_path: Path):
    names = {'tab\tquote"back\\slash': "1", "new\nline": "2", "ünï 🎈": "3"}
    origin.commit("first", **names)
    async with repository(origin, tmp_path) as git:
        found = await contents(git)
    assert found == {f"policies/{name}.yaml": text.encode() for name, text in names.items()}


async def test_history_that_was_rewritten_is_the_branch_all_the_same(
    origin: Origin, tmp_path: Path
):
    first = origin.commit("first", a="one")
    origin.commit("second", a="two")
    async with repository(origin, tmp_path) as git:
        assert await contents(git) == {"policies/a.yaml": b"two"}
        origin.git("reset", "--quiet", "--hard", first)
        assert (await git.newest()).id == first
        assert await contents(git) == {"policies/a.yaml": b"one"}
        other = origin.commit("amended", "--amend", a="three")
        assert (await git.newest()).id == other


async def test_a_branch_that_is_gone_is_told_from_a_repository_that_is(
    origin: Origin, tmp_path: Path
):
    origin.commit("first", a="one")
    async with repository(origin, tmp_path) as git:
        await git.newest()
        origin.git("branch", "--move", "main", "trunk")
        with pytest.raises(NotFound, match='no branch "main"'):
            await git.newest()
        origin.folder.rename(tmp_path / "moved")
        with pytest.raises(Unavailable, match="does not answer"):
            await git.newest()
        (tmp_path / "moved").rename(origin.folder)
        origin.git("branch", "--move", "trunk", "main")
        assert await contents(git) == {"policies/a.yaml": b"one"}


async def test_a_git_that_fails_for_what_is_missing_is_asked_again(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # Debian's 2.39.5: what is missing, and may not be fetched by itself, ends it.
    real = shutil.which("git")
    wrapper = tmp_path / "bin" / "git"
    wrapper.parent.mkdir()
    wrapper.write_text(
        f'#!/bin/sh\n[ "$1 $2" = \'cat-file --batch-check\' ] || exec {real} "$@"\n'
        f'said=$({real} "$@") || exit\ncase $said in *missing*) exit 128 ;; esac\n'
        'printf "%s\\n" "$said"\n'
    )
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")
    async with repository(origin, tmp_path) as git:
        for text in ("one", "two"):
            origin.commit(text, a=text, same="same")
            assert (await contents(git))["policies/a.yaml"] == text.encode()


async def test_a_repository_without_a_commit_has_no_branch(origin: Origin, tmp_path: Path):
    async with repository(origin, tmp_path) as git:
        with pytest.raises(NotFound, match='no branch "main"') as missing:
            await git.newest()
        assert "--branch" in missing.value.hint
        origin.commit("first", a="one")
        origin.git("checkout", "--quiet", "--detach")  # which branch is out there means nothing
        assert await contents(git) == {"policies/a.yaml": b"one"}


async def test_a_damaged_cache_is_made_anew(origin: Origin, tmp_path: Path):
    origin.commit("first", a="one")
    async with repository(origin, tmp_path) as git:
        await git.newest()
    for pack in (tmp_path / "cache").rglob("*.pack"):
        pack.chmod(0o600)
        pack.write_bytes(b"damaged")
    async with repository(origin, tmp_path) as git:
        origin.commit("second", a="two")
        for _ in range(3):
            try:
                found = await contents(git)
            except Unavailable:
                continue
            break
        assert found == {"policies/a.yaml": b"two"}


async def test_a_lock_that_a_killed_git_left_is_no_obstacle(origin: Origin, tmp_path: Path):
    origin.commit("first", a="one")
    async with repository(origin, tmp_path) as git:
        await git.newest()
        (tmp_path / "cache" / "main" / "shallow.lock").touch()
        origin.commit("second", a="two")
        assert await contents(git) == {"policies/a.yaml": b"two"}


async def test_a_giant_commit_is_refused_before_it_fills_the_disk(origin: Origin, tmp_path: Path):
    origin.git("config", "uploadpack.allowFilter", "false")
    noise = random.Random(1).randbytes(1_000_000)
    (origin.folder / "noise.bin").write_bytes(noise)
    origin.commit("first", a="one")
    async with repository(origin, tmp_path, pack_bytes=100_000) as git:
        with pytest.raises(RefusedCommit, match="more than 100000 bytes"):
            await git.newest()
        origin.git("config", "uploadpack.allowFilter", "true")
        assert await contents(git) == {"policies/a.yaml": b"one"}


async def test_too_many_names_and_too_many_bytes_are_refused(origin: Origin, tmp_path: Path):
    origin.commit("first", **{f"n{number}": "x" * 100 for number in range(20)})
    async with repository(origin, tmp_path, names=5) as git:
        with pytest.raises(RefusedCommit):
            await contents(git)
    async with repository(origin, tmp_path, set_bytes=1000) as git:
        with pytest.raises(RefusedCommit, match="2000 bytes; at most 1000"):
            await contents(git)


async def test_a_file_that_is_too_large_comes_cut_off_behind_the_limit(
    origin: Origin, tmp_path: Path
):
    origin.commit("first", a="one", b="x" * 5000)
    async with repository(origin, tmp_path, file_bytes=1000) as git:
        found = await contents(git)
    assert found["policies/a.yaml"] == b"one"
    assert len(found["policies/b.yaml"]) == 1001


async def test_a_cache_is_used_by_one_at_a_time_and_by_its_owner_alone(
    origin: Origin, tmp_path: Path
):
    origin.commit("first", a="one")
    async with repository(origin, tmp_path):
        with pytest.raises(Unavailable, match="another process"):
            async with repository(origin, tmp_path):
                pass
    assert (tmp_path / "cache" / "main").stat().st_mode & 0o777 == 0o700
    async with repository(origin, tmp_path) as git:
        await git.newest()


async def test_a_name_that_no_branch_can_have_is_refused(origin: Origin, tmp_path: Path):
    for branch in ("a..b", "a b", "--upload-pack=x\n", ""):
        options = GitOptions(url=origin.url, branch=branch)
        with pytest.raises(UsageError, match="--branch"):
            async with GitRepository(tmp_path / "cache", options):
                pass


async def test_a_signature_of_an_allowed_signer_is_good(origin: Origin, tmp_path: Path):
    ann, eve = Signer.make(tmp_path / "ann"), Signer.make(tmp_path / "eve")
    allowed = ann.allow(tmp_path / "allowed")
    options = GitOptions(url=origin.url, signers=allowed)
    async with GitRepository(tmp_path / "cache", options) as git:
        ann.sign(origin)
        origin.commit("by ann", a="one")
        await git.verify(await git.newest())
        eve.sign(origin)
        origin.commit("by eve", a="two")
        with pytest.raises(RefusedCommit, match="by Ann Author"):
            await git.verify(await git.newest())
        origin.git("config", "commit.gpgSign", "false")
        origin.commit("by nobody", a="three")
        with pytest.raises(RefusedCommit, match="no good signature"):
            await git.verify(await git.newest())


async def test_a_signature_of_a_commit_that_was_changed_is_bad(origin: Origin, tmp_path: Path):
    ann = Signer.make(tmp_path / "ann")
    options = GitOptions(url=origin.url, signers=ann.allow(tmp_path / "allowed"))
    ann.sign(origin)
    origin.commit("by ann", a="one")
    text = origin.git("cat-file", "commit", "HEAD").replace("by ann", "by eve") + "\n"
    forged = tmp_path / "forged"
    forged.write_text(text)
    id = origin.git("hash-object", "-t", "commit", "-w", str(forged))
    origin.git("update-ref", "refs/heads/main", id)
    async with GitRepository(tmp_path / "cache", options) as git:
        commit = await git.newest()
        assert commit.subject == "by eve"
        with pytest.raises(MeshError, match="no good signature"):
            await git.verify(commit)


async def test_without_allowed_signers_the_users_key_ring_decides(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with key_ring() as ann, key_ring() as eve:
        monkeypatch.setenv("GNUPGHOME", str(ann.home))
        async with repository(origin, tmp_path) as git:
            origin.commit("by nobody", a="zero")
            with pytest.raises(RefusedCommit, match="it has no signature"):
                await git.verify(await git.newest())
            ann.sign(origin).commit("by ann", a="one")
            await git.verify(await git.newest())
            eve.sign(origin).commit("by who calls herself ann", a="two")
            with pytest.raises(RefusedCommit, match="no good signature") as refused:
                await git.verify(await git.newest())
            assert "No public key" in str(refused.value)
        # With a file of SSH's signers no OpenPGP signature counts.
        ann.sign(origin).commit("by ann", a="three")
        signers = Signer.make(tmp_path / "key").allow(tmp_path / "allowed")
        options = GitOptions(url=origin.url, signers=signers)
        async with GitRepository(tmp_path / "cache", options) as git:
            with pytest.raises(RefusedCommit, match="no good signature"):
                await git.verify(await git.newest())


async def test_a_password_in_the_url_is_not_told(tmp_path: Path):
    options = GitOptions(url="https://ann:hunter2@127.0.0.1:1/mesh.git")
    async with GitRepository(tmp_path / "cache", options) as git:
        with pytest.raises(Unavailable) as refused:
            await git.newest()
    assert "hunter2" not in str(refused.value) + refused.value.hint
