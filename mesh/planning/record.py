"""A revision's record: what `head` and `revisions/<n>` hold, small whatever the mesh's size."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mesh.errors import Corrupted
from mesh.model.revision import Revision


@dataclass(frozen=True, slots=True, order=True)
class ChunkRef:
    """Names a chunk: the entries of one kind in one namespace, or a part of them."""

    namespace: str
    kind: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A revision and where its manifest is: `chunks` for a small mesh, else `indexes`, which are
    lists of chunks, content-addressed as chunks are. `change` is unique to the commit that made
    the record: who finds their own there knows that their commit took place. `origin` is the
    `change` of the first revision of this history: stores of different meshes have different ones.
    """

    revision: Revision
    change: str
    chunks: tuple[ChunkRef, ...] = ()
    indexes: tuple[str, ...] = ()
    origin: str = ""


def serialize(value: object) -> bytes:
    """Compact JSON with sorted keys: equal values, equal bytes."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


def write_record(head: Head) -> bytes:
    """The bytes of a record; `parse_record` is the inverse."""
    value: dict[str, object] = {
        "change": head.change,
        "origin": head.origin,
        "revision": _revision(head.revision),
    }
    if head.indexes:
        value["indexes"] = list(head.indexes)
    else:
        value["chunks"] = write_refs(head.chunks)
    return serialize(value)


def parse_record(data: bytes) -> Head:
    """Read a record.

    Raises:
        Corrupted: it is not one.
    """
    try:
        value = json.loads(data)
        return Head(
            revision=_read_revision(value["revision"]),
            change=value["change"],
            chunks=read_refs(value.get("chunks", ())),
            indexes=tuple(value.get("indexes", ())),
            origin=value.get("origin", ""),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Corrupted(f"a revision's record cannot be read: {error}") from error


def write_refs(refs: tuple[ChunkRef, ...]) -> list[list[str]]:
    """References as JSON."""
    return [[ref.namespace, ref.kind, ref.digest] for ref in refs]


def read_refs(value: object) -> tuple[ChunkRef, ...]:
    """References from JSON; TypeError or ValueError if they are none."""
    if not isinstance(value, list | tuple):
        raise TypeError("a list of chunks is expected")
    return tuple(ChunkRef(*item) for item in value)


def _revision(revision: Revision) -> dict[str, object]:
    return {
        "number": revision.number,
        "parent": revision.parent,
        "time": revision.time.astimezone(UTC).isoformat(timespec="microseconds"),
        "author": revision.author,
        "message": revision.message,
        "source": revision.source,
        "commit": revision.commit,
        "created": revision.created,
        "updated": revision.updated,
        "deleted": revision.deleted,
        "restores": revision.restores,
    }


def _read_revision(value: Mapping[str, Any]) -> Revision:
    return Revision(
        number=int(value["number"]),
        parent=int(value["parent"]),
        time=datetime.fromisoformat(value["time"]),
        author=value["author"],
        message=value["message"],
        source=value["source"],
        commit=value["commit"],
        created=int(value["created"]),
        updated=int(value["updated"]),
        deleted=int(value["deleted"]),
        restores=value.get("restores"),
    )
