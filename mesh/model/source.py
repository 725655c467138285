"""A source that follows a git repository: its commits, their files, and how far the sync is."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from mesh.diagnostics import Diagnostic


@dataclass(frozen=True, slots=True, kw_only=True)
class GitCommit:
    """A commit: `id` is its hash (hex), `author` a name and address, `subject` its first line.

    Texts are one line each, bounded and without control characters, whatever the commit has.
    """

    id: str
    author: str
    subject: str
    time: datetime


class BlobKind(StrEnum):
    """What stands under a name in a commit; only a FILE is read."""

    FILE = "file"
    LINK = "symbolic link"
    SUBMODULE = "submodule"


@dataclass(frozen=True, slots=True, order=True)
class Blob:
    """A name in a commit, relative to the repository's root, and the hash of what it names."""

    name: str
    id: str
    kind: BlobKind = BlobKind.FILE


class SyncState(StrEnum):
    """SYNCED: the mesh has what the commit says. REFUSED: the commit is bad, the last good one
    stays. UNREACHABLE: the repository does not answer. HELD: rolled back since; waits for a newer
    commit. DRIFTED: somebody applied by hand. REJECTED: applied, and a sidecar refuses it.
    """

    SYNCED = "synced"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    HELD = "held"
    DRIFTED = "drifted"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStatus:
    """What a sync reports of its source.

    `commit` is the newest that was seen, `applied` the hash of the one in force and `revision`
    the revision that it came with. `head` is the revision that the report was made at, `held` the
    rollback since which the source waits for a commit other than `commit`, or 0. `code`,
    `message`, `hint` and `diagnostics` say why the state is not SYNCED. `since` is when the state
    began, `checked` when the repository last answered. `repository` carries no password.
    """

    source: str
    repository: str
    branch: str
    path: str
    state: SyncState
    commit: GitCommit | None = None
    applied: str | None = None
    revision: int = 0
    head: int = 0
    held: int = 0
    code: str = ""
    message: str = ""
    hint: str = ""
    diagnostics: tuple[Diagnostic, ...] = ()
    since: datetime
    checked: datetime | None = None
