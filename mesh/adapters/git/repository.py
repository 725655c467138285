"""One branch of a repository: fetched shallow into a cache of its own, read without a checkout.

Nothing of a commit is ever written to the disk as a file: names come from `git ls-tree`, contents
from `git cat-file`. So a symbolic link, a submodule, a hook, an attribute or a filter of the
repository does nothing here. The cache may be deleted at any time; a damaged one is made anew.
"""

import asyncio
import fcntl
import hashlib
import os
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from mesh.adapters.git.location import locate, redact
from mesh.adapters.git.parsing import object_sizes, objects, tree
from mesh.adapters.git.program import Answer, Program
from mesh.errors import (
    Denied,
    MeshError,
    NotFound,
    OutOfSpace,
    RefusedCommit,
    Unavailable,
    UsageError,
)
from mesh.model.source import Blob, BlobKind, GitCommit

_REF: Final = "refs/mesh/newest"
_FORMAT: Final = "--format=%H%x00%an <%ae>%x00%ct%x00%s"
_SMALL: Final = 1 << 16
_LINE_BYTES: Final = 200  # of a listing: mode, type, hash and a long name
_LONGEST_TEXT: Final = 200
_MOST_PACKS: Final = 100
_LOCAL_SECONDS: Final = 60.0
_ABSENT: Final = 2  # `git ls-remote --exit-code`
_DENIALS: Final = (
    "Authentication failed",
    "Permission denied",
    "could not read Username",
    "could not read Password",
    "Host key verification failed",
    "The requested URL returned error: 403",
)
# How gpg introduces a signature, before it says what is wrong with it.
_WHAT: Final = ("gpg: Signature made ", "gpg:   ")
_SETTINGS: Final = {
    "core.hooksPath": "/dev/null",
    "core.logAllRefUpdates": "false",
    "fetch.unpackLimit": "1",  # one pack a fetch, whose size `ulimit -f` bounds
    "fetch.recurseSubmodules": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "30",
    "log.showSignature": "false",
    "protocol.version": "2",
    "i18n.logOutputEncoding": "UTF-8",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is taken of a repository: `pack_bytes` by one fetch, `names` below the path, a file's
    and all files' bytes; `seconds` for a fetch.
    """

    pack_bytes: int = 1 << 30
    names: int = 100_000
    file_bytes: int = 8 * 1024 * 1024
    set_bytes: int = 512 * 1024 * 1024
    seconds: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GitOptions:
    """`url` is what `git fetch` takes, or a folder. `signers` is an allowed signers file (SSH);
    without one `verify` asks what the user's own git configuration trusts.
    """

    url: str = field(repr=False)
    branch: str = "main"
    signers: Path | None = None
    limits: Limits = Limits()


class GitRepository:
    """The `Repository` of a URL; its cache is in `folder` (0700, made as needed)."""

    def __init__(self, folder: Path, options: GitOptions) -> None:
        self._folder = folder
        self._options = options
        self._url = locate(options.url)
        settings = _SETTINGS | {
            "remote.origin.url": self._url,
            "remote.origin.promisor": "true",
            "remote.origin.partialclonefilter": "blob:none",
        }
        self._git = Program(folder, settings | _trust(options.signers))
        self._lock = -1

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._take_folder)
        try:
            await self._check_branch()
        except BaseException:
            os.close(self._lock)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._lock)

    async def newest(self) -> GitCommit:
        """Fetch the branch's tip; on a damaged cache once more, into a new one."""
        await self._make(anew=await asyncio.to_thread(_packs, self._folder) > _MOST_PACKS)
        answer = await self._fetch()
        if answer.code:
            await self._explain(answer)
            await self._make(anew=True)
            answer = await self._fetch()
            if answer.code:
                raise Unavailable(f"{self._name} cannot be fetched: {self._said(answer)}")
        told = await self._local("log", "-1", "--no-show-signature", _FORMAT, _REF, "--")
        return _commit(told)

    async def verify(self, commit: GitCommit) -> None:
        """Ask `git verify-commit`: exit code 0 is a good signature of somebody who is trusted."""
        answer = await self._git.run(
            "verify-commit", commit.id, seconds=_LOCAL_SECONDS, most_bytes=_SMALL
        )
        if answer.code:
            lines = [line for line in answer.errors.splitlines() if not line.startswith(_WHAT)]
            said = " / ".join(lines) or "it has no signature"
            raise RefusedCommit(
                f"commit {commit.id[:12]} by {commit.author} has no good signature of an allowed "
                f"signer: {_line(said)}",
                "sign it (git commit -S) with a key that the allowed signers name",
            )

    async def blobs(self, commit: GitCommit, path: str) -> tuple[Blob, ...]:
        """List the path itself, then, if it is a folder, all below it."""
        treeish = commit.id
        if path:
            found = tree(await self._list(commit.id, "--", path), "")
            if found:
                return found
            treeish = f"{commit.id}:{path}"
            if not await self._list(commit.id, "-d", "--", path):
                return ()
        prefix = f"{path}/" if path else ""
        return tree(await self._list("-r", treeish), prefix)

    async def read(self, blobs: Collection[Blob]) -> dict[str, bytes]:
        """Fetch what is missing in one request, look at the sizes, then read."""
        ids = sorted({blob.id for blob in blobs if blob.kind is BlobKind.FILE})
        limits = self._options.limits
        sizes = await self._known(ids)
        if missing := [id for id in ids if id not in sizes]:
            await self._complete(missing)
            sizes = await self._sizes(ids)
        if any(id not in sizes for id in ids):
            raise await self._damaged("objects are missing")
        total = sum(sizes[blob.id] for blob in blobs if blob.kind is BlobKind.FILE)
        if total > limits.set_bytes:
            raise RefusedCommit(
                f"the files have {total} bytes; at most {limits.set_bytes} are read",
                "give a --path that holds only policies",
            )
        wanted = [id for id in ids if sizes[id] <= limits.file_bytes]
        told = await self._local("cat-file", "--batch", names=wanted, most_bytes=limits.set_bytes)
        # What is too large is told by its length, without being read.
        large = {id: bytes(limits.file_bytes + 1) for id in ids if sizes[id] > limits.file_bytes}
        return objects(told) | large

    async def _fetch(self) -> Answer:
        refspec = f"+refs/heads/{self._options.branch}:{_REF}"
        return await self._remote(
            "fetch", "--quiet", "--depth=1", "--no-tags", "--no-write-fetch-head", "--force",
            "--filter=blob:none", "origin", refspec,
        )  # fmt: skip

    async def _complete(self, ids: Iterable[str]) -> None:
        """What git itself does for a partial clone, for many objects at a time."""
        answer = await self._remote(
            "-c", "fetch.negotiationAlgorithm=noop",
            "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--filter=blob:none",
            "--stdin", "origin",
            stdin="".join(f"{id}\n" for id in ids).encode(),
        )  # fmt: skip
        if answer.code:
            await self._explain(answer)
            raise await self._damaged(self._said(answer))

    async def _remote(self, *arguments: str, stdin: bytes = b"") -> Answer:
        limits = self._options.limits
        return await self._git.run(
            *arguments,
            seconds=limits.seconds,
            stdin=stdin,
            most_bytes=_SMALL,
            file_bytes=limits.pack_bytes,
        )

    async def _explain(self, failed: Answer) -> None:
        """Say why a fetch failed, if the reason is not our cache.

        git's exit code is 128 for everything, so the repository is asked something simpler.
        """
        said = self._said(failed)
        if "No space left on device" in failed.errors:
            raise OutOfSpace(f"no room for {self._name}: {said}", f'free space at "{self._folder}"')
        limits = self._options.limits
        if await asyncio.to_thread(_largest_pack, self._folder) + _SMALL > limits.pack_bytes:
            raise RefusedCommit(
                f"{self._name} sends more than {limits.pack_bytes} bytes for one commit",
                "keep policies in a repository of their own, or let the server allow filters "
                "(uploadpack.allowFilter)",
            )
        ref = f"refs/heads/{self._options.branch}"
        asked = await self._git.run(
            "ls-remote", "--quiet", "--exit-code", "origin", ref,
            seconds=_LOCAL_SECONDS, most_bytes=_SMALL,
        )  # fmt: skip
        if asked.code == _ABSENT:
            raise NotFound(
                f'{self._name} has no branch "{self._options.branch}"',
                "push it again, or give the right one with --branch",
            )
        if asked.code:
            words = self._said(asked)
            is_denied = any(text in asked.errors for text in _DENIALS)
            kind, verb = (Denied, "refuses") if is_denied else (Unavailable, "does not answer")
            raise kind(f"{self._name} {verb}: {words}", f"try: git ls-remote {redact(self._url)}")

    async def _list(self, *arguments: str) -> bytes:
        most = self._options.limits.names * _LINE_BYTES
        return await self._local("ls-tree", "-z", "--full-tree", *arguments, most_bytes=most)

    async def _known(self, ids: list[str]) -> Mapping[str, int]:
        """The sizes of what was fetched already.

        git below 2.45 fails where something is missing that it may not fetch by itself; then
        nothing counts as known.
        """
        answer = await self._ask("cat-file", "--batch-check", names=ids)
        return {} if answer.code else object_sizes(answer.output)

    async def _sizes(self, ids: list[str]) -> Mapping[str, int]:
        return object_sizes(await self._local("cat-file", "--batch-check", names=ids))

    async def _local(
        self, *arguments: str, names: Sequence[str] = (), most_bytes: int = _SMALL
    ) -> bytes:
        """What git says of the cache; if it cannot, the cache is thrown away."""
        answer = await self._ask(*arguments, names=names, most_bytes=most_bytes)
        if answer.code:
            raise await self._damaged(self._said(answer))
        return answer.output

    async def _ask(
        self, *arguments: str, names: Sequence[str] = (), most_bytes: int = _SMALL
    ) -> Answer:
        return await self._git.run(
            *arguments,
            seconds=_LOCAL_SECONDS,
            stdin="".join(f"{name}\n" for name in names).encode(),
            most_bytes=most_bytes + _LINE_BYTES * len(names),
        )

    async def _damaged(self, why: str) -> MeshError:
        await self._make(anew=True)
        return Unavailable(f"the cache of {self._name} was damaged: {why}", "it is made anew")

    async def _make(self, *, anew: bool) -> None:
        """A bare repository without hooks in the folder."""
        if anew:
            await asyncio.to_thread(_empty, self._folder)
        if not (self._folder / "HEAD").exists():
            answer = await self._git.run(
                "init", "--quiet", "--bare", "--template=", str(self._folder),
                seconds=_LOCAL_SECONDS, most_bytes=_SMALL,
            )  # fmt: skip
            if answer.code:
                raise OutOfSpace(f'no cache can be made in "{self._folder}": {self._said(answer)}')

    async def _check_branch(self) -> None:
        ref = f"refs/heads/{self._options.branch}"
        answer = await self._git.run(
            "check-ref-format", ref, seconds=_LOCAL_SECONDS, most_bytes=_SMALL
        )
        if answer.code:
            raise UsageError(f'--branch: "{self._options.branch}" is no name of a branch')

    def _take_folder(self) -> None:
        """Make the folder and hold it for as long as this process works with it."""
        try:
            for folder in (self._folder.parent, self._folder):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                folder.chmod(0o700)
            self._lock = os.open(
                self._folder / "mesh.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise OutOfSpace(f'no cache can be made in "{self._folder}": {error}') from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise Unavailable(
                f'another process uses "{self._folder}"',
                "give the sync of another mesh a state folder of its own (--state)",
            ) from error

    @property
    def _name(self) -> str:
        return f'the repository "{redact(self._url)}"'

    def _said(self, answer: Answer) -> str:
        """Git's words in one line, without the password of the URL."""
        words = answer.errors.replace(self._url, redact(self._url))
        return _line(" / ".join(words.splitlines()) or f"exit code {answer.code}")


def cache_name(source: str, url: str) -> str:
    """The name of a cache's folder: a source's name may have slashes, and its URL may change."""
    return f"{source.replace('/', '%')}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"


def _trust(signers: Path | None) -> dict[str, str]:
    """With a file of signers only SSH signatures count, and only of those in the file."""
    if signers is None:
        return {}
    return {
        "gpg.ssh.allowedSignersFile": str(signers),
        "gpg.program": "false",
        "gpg.openpgp.program": "false",
        "gpg.x509.program": "false",
    }


def _commit(told: bytes) -> GitCommit:
    id, author, seconds, subject = told.decode(errors="replace").rstrip("\n").split("\0")
    return GitCommit(
        id=id,
        author=_line(author),
        subject=_line(subject),
        time=datetime.fromtimestamp(int(seconds), UTC),
    )


def _line(text: str) -> str:
    """One bounded line without control characters: it goes to terminals."""
    clean = "".join(char if char.isprintable() else " " for char in text).strip()
    return clean if len(clean) <= _LONGEST_TEXT else clean[: _LONGEST_TEXT - 3] + "..."


def _packs(folder: Path) -> int:
    return sum(1 for _ in (folder / "objects" / "pack").glob("*.pack"))


def _largest_pack(folder: Path) -> int:
    """A pack that reached its limit is still there under a temporary name."""
    packs = (folder / "objects" / "pack").glob("*pack*")
    return max((pack.stat().st_size for pack in packs), default=0)


def _empty(folder: Path) -> None:
    """Delete all of the cache but the lock that we hold."""
    for entry in folder.iterdir():
        if entry.name == "mesh.lock":
            continue
        with suppress(FileNotFoundError):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
