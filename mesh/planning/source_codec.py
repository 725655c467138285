"""A source's status as JSON bytes: what `sync/<source>/status` holds."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from mesh.errors import Corrupted
from mesh.model.source import GitCommit, SourceStatus, SyncState
from mesh.planning.record import serialize
from mesh.planning.status_codec import read_diagnostic, write_diagnostic


def encode_source(status: SourceStatus) -> bytes:
    """The bytes of a status; `decode_source` is the inverse."""
    return serialize(
        {
            "source": status.source,
            "repository": status.repository,
            "branch": status.branch,
            "path": status.path,
            "state": status.state.value,
            "commit": None if status.commit is None else _commit(status.commit),
            "applied": status.applied,
            "revision": status.revision,
            "head": status.head,
            "held": status.held,
            "code": status.code,
            "message": status.message,
            "hint": status.hint,
            "diagnostics": [write_diagnostic(item) for item in status.diagnostics],
            "since": status.since.isoformat(),
            "checked": None if status.checked is None else status.checked.isoformat(),
        }
    )


def decode_source(data: bytes) -> SourceStatus:
    """Read a status.

    Raises:
        Corrupted: it is not one.
    """
    try:
        value = json.loads(data)
        commit, checked = value["commit"], value["checked"]
        return SourceStatus(
            source=value["source"],
            repository=value["repository"],
            branch=value["branch"],
            path=value["path"],
            state=SyncState(value["state"]),
            commit=None if commit is None else _read_commit(commit),
            applied=value["applied"],
            revision=int(value["revision"]),
            head=int(value["head"]),
            held=int(value["held"]),
            code=value["code"],
            message=value["message"],
            hint=value["hint"],
            diagnostics=tuple(read_diagnostic(item) for item in value["diagnostics"]),
            since=datetime.fromisoformat(value["since"]),
            checked=None if checked is None else datetime.fromisoformat(checked),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Corrupted(f"a source's status cannot be read: {error}") from error


def _commit(commit: GitCommit) -> dict[str, object]:
    return {
        "id": commit.id,
        "author": commit.author,
        "subject": commit.subject,
        "time": commit.time.isoformat(),
    }


def _read_commit(value: Mapping[str, Any]) -> GitCommit:
    return GitCommit(
        id=value["id"],
        author=value["author"],
        subject=value["subject"],
        time=datetime.fromisoformat(value["time"]),
    )
