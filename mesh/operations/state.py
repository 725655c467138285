"""The mesh as the store has it: head, manifests, objects."""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from mesh.errors import Corrupted, NotFound
from mesh.model.revision import Manifest, Revision
from mesh.operations.concurrency import for_each
from mesh.planning import keyspace
from mesh.planning.manifest import Part, assemble, missing, parse_part
from mesh.planning.record import Head, parse_record
from mesh.ports import Entry, Store

FETCH_KEYS = 100
FETCHES_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class State:
    """A revision with its manifest. `version` is that of the key `head`, 0 where there is none;
    `parts` are the manifest's, for a reader of another revision to start from.
    """

    head: Head | None
    version: int
    manifest: Manifest
    parts: Mapping[str, Part] = field(default_factory=dict, repr=False)

    @property
    def number(self) -> int:
        """The revision's number; 0 is the empty mesh."""
        return self.head.revision.number if self.head else 0

    @property
    def change(self) -> str:
        """The change id of the revision; empty for the empty mesh."""
        return self.head.change if self.head else ""


async def read_head(store: Store) -> tuple[Head | None, int]:
    """The newest revision's record and the version of its key; None and 0 for the empty mesh."""
    entry = (await store.fetch([keyspace.HEAD])).get(keyspace.HEAD)
    return (parse_record(entry.value), entry.version) if entry else (None, 0)


async def read_state(store: Store) -> State:
    """Head with its manifest.

    Raises:
        Corrupted: a part of it is missing or damaged.
    """
    head, version = await read_head(store)
    if head is None:
        return State(None, 0, {})
    parts: dict[str, Part] = {}
    manifest = await read_manifest(store, head, parts)
    return State(head, version, manifest, parts)


async def read_revision(store: Store, number: int, state: State) -> tuple[Revision, Manifest]:
    """An older revision; `state` lends the parts that they share.

    Raises:
        NotFound: it never was, or was collected.
    """
    if state.head is not None and number == state.number:
        return state.head.revision, state.manifest
    entry = (await store.fetch([keyspace.revision(number)])).get(keyspace.revision(number))
    if number < 1 or entry is None:
        raise NotFound(
            f'there is no revision "{number}"',
            f"head is {state.number}; `mesh history` lists those that are kept",
        )
    head = parse_record(entry.value)
    return head.revision, await read_manifest(store, head, dict(state.parts))


async def read_manifest(store: Store, head: Head, parts: dict[str, Part]) -> Manifest:
    """The manifest of a record; `parts` is what is known already and takes what is new.

    Raises:
        Corrupted: a part is missing or damaged.
    """
    while digests := missing(head, parts):
        keys = {keyspace.chunk(digest): digest for digest in digests}
        found = await fetch_all(store, keys)
        for key, digest in keys.items():
            if key not in found:
                raise Corrupted(
                    f'revision {head.revision.number} needs "{key}", which is not in the store',
                    "restore the store from a backup",
                )
            parts[digest] = parse_part(digest, found[key].value)
    return assemble(head, parts)


async def read_objects(store: Store, digests: Iterable[str]) -> dict[str, bytes]:
    """Canonical documents by digest.

    Raises:
        Corrupted: one is missing or damaged.
    """
    keys = {keyspace.policy(digest): digest for digest in digests}
    found = await fetch_all(store, keys)
    objects = {digest: found[key].value for key, digest in keys.items() if key in found}
    for digest in keys.values():
        if digest not in objects or hashlib.sha256(objects[digest]).hexdigest() != digest:
            raise Corrupted(
                f'the document "{digest}" is missing or damaged in the store',
                "restore the store from a backup",
            )
    return objects


async def fetch_all(store: Store, keys: Collection[str]) -> dict[str, Entry]:
    """Entries of any number of keys, several requests at a time."""
    names = list(keys)
    found: dict[str, Entry] = {}

    async def fetch(start: int) -> None:
        found.update(await store.fetch(names[start : start + FETCH_KEYS]))

    starts = range(0, len(names), FETCH_KEYS)
    await for_each(fetch, starts, at_once=FETCHES_AT_ONCE)
    return found
