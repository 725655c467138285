"""The whole mesh at one moment: manifest, revision, and policies with where they came from."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from mesh.diagnostics import Position
from mesh.model.policy import Policy, PolicyKey, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestEntry:
    """One document of a revision. Equality of content is `digest` alone.

    `digest` is the SHA-256 (hex) of the policy's canonical JSON. `introduced` is the revision
    that created the document: its age. `file` is relative to the git root, else to the given
    path. `targets` is what the document names as parent or target, `uses` what it sends to or
    selects, `admits` the callers that its allow and audit rules let see the targets (a
    `Namespace` target is everybody in it; `Mesh` is everybody).
    """

    key: PolicyKey
    digest: str
    source: str
    file: str
    line: int
    introduced: int
    targets: tuple[Target, ...] = ()
    uses: tuple[Target, ...] = ()
    admits: tuple[Target, ...] = ()

    @property
    def position(self) -> Position:
        """Where the document starts."""
        return Position(self.file, self.line)


Manifest = Mapping[PolicyKey, ManifestEntry]


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One commit of the whole mesh. `parent` 0 is the empty mesh. `time` is aware UTC.

    `restores` is the revision whose documents a rollback brought back.
    """

    number: int
    parent: int
    time: datetime
    author: str
    message: str
    source: str
    commit: str | None
    created: int
    updated: int
    deleted: int
    restores: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """A policy as it stands in a revision, with its place in it."""

    policy: Policy
    entry: ManifestEntry


Policies = Mapping[PolicyKey, Applied]
