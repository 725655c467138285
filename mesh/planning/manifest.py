"""A manifest as content-addressed parts, and back.

A manifest is split by namespace and kind into chunks, and a long list of chunks into indexes, so
that no value comes near etcd's limit of a request (1.5 MiB) and a small change rewrites little: a
reader fetches only the parts whose digests it lacks. What is too large is spread by the hash of
its names, never cut at a position, so that one more document moves no other.

To read: `missing` says which parts to fetch until it says none, then `assemble`.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from mesh.errors import Corrupted, InputError
from mesh.model.revision import Manifest, ManifestEntry, Revision
from mesh.planning import keyspace
from mesh.planning.entries import read_entry, write_entry
from mesh.planning.record import (
    ChunkRef,
    Head,
    parse_record,
    read_refs,
    serialize,
    write_record,
    write_refs,
)

__all__ = [
    "Chunk",
    "ChunkRef",
    "Head",
    "Index",
    "Part",
    "Written",
    "assemble",
    "batches",
    "chunks_of",
    "missing",
    "parse_part",
    "parse_record",
    "used",
    "write",
]

CHUNK_BYTES = 512 * 1024
INLINE_BYTES = 64 * 1024
BATCH_BYTES = 1_000_000
BATCH_OPERATIONS = 120
# What a batch holds of one value, less its key.
MAX_OBJECT_BYTES = BATCH_BYTES - 100

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Index:
    """A list of chunks."""

    chunks: tuple[ChunkRef, ...]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Entries of one kind in one namespace."""

    entries: tuple[ManifestEntry, ...]


Part = Index | Chunk


@dataclass(frozen=True, slots=True)
class Written:
    """A manifest made ready for the store: `record` for `head` and `revisions/<n>`, and the
    parts by digest (for `chunks/<digest>`) that the record leads to.
    """

    record: bytes
    parts: Mapping[str, bytes]


def write(manifest: Manifest, revision: Revision, change: str, origin: str = "") -> Written:
    """Turn a manifest into a record and its parts; `change` and `origin` are as in `Head`.

    Raises:
        InputError: one document names so many others that its entry exceeds a request.
    """
    parts: dict[str, bytes] = {}
    refs = tuple(sorted(_write_chunks(manifest, parts)))
    if len(serialize(write_refs(refs))) <= INLINE_BYTES:
        head = Head(revision=revision, change=change, chunks=refs, origin=origin)
    else:
        indexes = _write_indexes(refs, parts)
        head = Head(revision=revision, change=change, indexes=indexes, origin=origin)
    return Written(write_record(head), parts)


def missing(head: Head, parts: Mapping[str, Part]) -> tuple[str, ...]:
    """The digests of parts that are needed next; empty when `parts` has all of them."""
    lacking = [digest for digest in head.indexes if digest not in parts]
    if lacking:
        return tuple(lacking)
    return tuple({ref.digest: None for ref in _refs(head, parts) if ref.digest not in parts})


def used(head: Head, parts: Mapping[str, Part]) -> frozenset[str]:
    """The digests of every part of `head`, its indexes being in `parts`."""
    return frozenset(head.indexes) | {ref.digest for ref in _refs(head, parts)}


def assemble(head: Head, parts: Mapping[str, Part]) -> Manifest:
    """The manifest of `head`; nothing of it may be `missing`.

    Raises:
        Corrupted: a part is of another sort than its reference says.
    """
    chunks = chunks_of(head, parts).values()
    return {entry.key: entry for chunk in chunks for entry in chunk.entries}


def chunks_of(head: Head, parts: Mapping[str, Part]) -> dict[str, Chunk]:
    """The entries of `head` by the digests of their chunks; nothing of it may be `missing`.

    Raises:
        Corrupted: a part is of another sort than its reference says.
    """
    found: dict[str, Chunk] = {}
    for ref in _refs(head, parts):
        part = parts[ref.digest]
        if not isinstance(part, Chunk):
            raise Corrupted(f'chunk "{ref.digest}" has no entries')
        found[ref.digest] = part
    return found


def parse_part(digest: str, data: bytes) -> Part:
    """Read the part that is stored under `digest`.

    Raises:
        Corrupted: the bytes are not those that the digest names.
    """
    if hashlib.sha256(data).hexdigest() != digest:
        raise Corrupted(f'chunk "{digest}" does not have the content that its name says')
    try:
        value = json.loads(data)
        if "chunks" in value:
            return Index(read_refs(value["chunks"]))
        namespace, kind = value["namespace"], value["kind"]
        return Chunk(tuple(read_entry(namespace, kind, item) for item in value["entries"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Corrupted(f'chunk "{digest}" cannot be read: {error}') from error


def batches(writes: Mapping[str, bytes]) -> Iterator[dict[str, bytes]]:
    """Split idempotent writes (key to value) into transactions that every store takes.

    Raises:
        InputError: a value alone is larger than a transaction.
    """
    batch: dict[str, bytes] = {}
    size = 0
    for key, value in writes.items():
        weight = len(key) + len(value)
        if weight > BATCH_BYTES:
            raise InputError(
                f'"{key}" has {weight} bytes; a request to the store may have {BATCH_BYTES}',
                "split the document into several",
            )
        if batch and (size + weight > BATCH_BYTES or len(batch) == BATCH_OPERATIONS):
            yield batch
            batch, size = {}, 0
        batch[key] = value
        size += weight
    if batch:
        yield batch


def _refs(head: Head, parts: Mapping[str, Part]) -> Iterator[ChunkRef]:
    yield from head.chunks
    for digest in head.indexes:
        part = parts[digest]
        if not isinstance(part, Index):
            raise Corrupted(f'chunk "{digest}" is not an index')
        yield from part.chunks


def _write_chunks(manifest: Manifest, parts: dict[str, bytes]) -> Iterator[ChunkRef]:
    groups: dict[tuple[str, str], list[tuple[str, bytes]]] = {}
    for key in sorted(manifest):
        text = serialize(write_entry(manifest[key]))
        groups.setdefault((key.namespace, key.kind), []).append((key.name, text))
    for (namespace, kind), entries in groups.items():
        frame = serialize({"kind": kind, "namespace": namespace})
        for bucket in _spread(entries, lambda entry: entry[0], lambda entry: len(entry[1]) + 1):
            # The frame's own "{" is dropped: {"entries":[...],"kind":...}.
            data = b'{"entries":[' + b",".join(text for _, text in bucket) + b"]," + frame[1:]
            yield ChunkRef(namespace, kind, _add(data, parts))


def _write_indexes(refs: tuple[ChunkRef, ...], parts: dict[str, bytes]) -> tuple[str, ...]:
    # Spread by namespace and small: a change of one namespace rewrites one sixteenth or less.
    size = len(serialize(write_refs(refs))) // 16 + INLINE_BYTES // 4
    buckets = _spread(refs, lambda ref: ref.namespace, lambda _: 200, min(size, CHUNK_BYTES))
    return tuple(
        _add(serialize({"chunks": write_refs(tuple(bucket))}), parts) for bucket in buckets
    )


def _add(data: bytes, parts: dict[str, bytes]) -> str:
    digest = hashlib.sha256(data).hexdigest()
    if len(keyspace.chunk(digest)) + len(data) > BATCH_BYTES:
        raise InputError(
            f"the names that one document refers to need {len(data)} bytes; "
            f"a request to the store may have {BATCH_BYTES}",
            "split the document into several",
        )
    parts[digest] = data
    return digest


def _spread(
    items: Iterable[T],
    name: Callable[[T], str],
    weight: Callable[[T], int],
    limit: int = CHUNK_BYTES,
) -> list[list[T]]:
    """Items in as few buckets as hold under `limit` bytes each; a bucket keeps the order."""
    sized = [(_hash(name(item)), weight(item), item) for item in items]
    count = 1
    while count < 2**16:
        sizes = [0] * count
        for hashed, size, _ in sized:
            sizes[hashed % count] += size
        if max(sizes) <= limit:
            break
        count *= 2
    buckets: dict[int, list[T]] = {}
    for hashed, _, item in sized:
        buckets.setdefault(hashed % count, []).append(item)
    return [buckets[number] for number in sorted(buckets)]


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
