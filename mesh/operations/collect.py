"""Garbage collection: old revisions, and what nothing leads to any more.

Safe beside commits at any moment. Every batch of deletions expects that head did not move since
we looked, so nothing that a commit made reachable is taken; and it writes the key `collection`,
which every commit expects unchanged since before it wrote its objects, so a commit whose objects
were taken as garbage is refused and writes them again.
"""

from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timedelta

from mesh.errors import Conflict
from mesh.operations.sidecars import Member, members
from mesh.operations.state import fetch_all, read_manifest
from mesh.planning import keyspace
from mesh.planning.manifest import Part, used
from mesh.planning.record import parse_record
from mesh.ports import Put, Store, Transaction

KEEP = 100
# Marking reads every kept manifest: worth it for a handful of revisions, not for each.
SLACK = 10
SILENCE = timedelta(days=1)
_DELETES = 100


async def collect(store: Store, keep: int = KEEP, slack: int = SLACK) -> int:
    """Delete what is older than the newest `keep` revisions, once `slack` more have come.

    Keeps every revision that a live sidecar reports. How many keys were deleted; a commit in
    between ends the work early, the next collection goes on.
    """
    numbers = sorted(_number(key) for key in await store.scan(keyspace.REVISIONS, keys_only=True))
    if len(numbers) <= keep + slack:
        return 0
    versions = await store.fetch([keyspace.HEAD, keyspace.COLLECTION])
    # What is there is listed before what is reachable: a later object is never in the list.
    present = [
        key
        for prefix in (keyspace.CHUNKS, keyspace.OBJECTS)
        for key in await store.scan(prefix, keys_only=True)
    ]
    reported = _reported(members(await store.scan(keyspace.SIDECARS)))
    kept = [number for number in numbers if number in reported or number in numbers[-keep:]]
    reachable = await _reachable(store, kept)
    garbage = [keyspace.revision(number) for number in numbers if number not in set(kept)]
    garbage += [key for key in present if key not in reachable]
    head = versions[keyspace.HEAD].version if keyspace.HEAD in versions else 0
    return await _delete(store, garbage, head)


async def forget_silent(store: Store, now: datetime) -> int:
    """Delete the reports of sidecars that have been silent for a day; how many went."""
    entries = await store.scan(keyspace.SIDECARS)
    count = 0
    for member in members(entries):
        if member.is_alive or now - member.status.time < SILENCE:
            continue
        report = keyspace.sidecar(member.status.id, keyspace.STATUS)
        alive = keyspace.sidecar(member.status.id, keyspace.ALIVE)
        with suppress(Conflict):  # it is back
            expect = {report: entries[report].version, alive: 0}
            await store.commit(Transaction(expect=expect, deletes=(report,)))
            count += 1
    return count


async def _delete(store: Store, garbage: list[str], head: int) -> int:
    deleted = 0
    for start in range(0, len(garbage), _DELETES):
        batch = tuple(garbage[start : start + _DELETES])
        with suppress(Conflict):
            await store.commit(
                Transaction(
                    expect={keyspace.HEAD: head},
                    puts=(Put(keyspace.COLLECTION, b""),),
                    deletes=batch,
                )
            )
            deleted += len(batch)
            continue
        break
    return deleted


async def _reachable(store: Store, numbers: Iterable[int]) -> set[str]:
    """The keys that the revisions lead to."""
    records = await fetch_all(store, [keyspace.revision(number) for number in numbers])
    parts: dict[str, Part] = {}
    keys: set[str] = set()
    for entry in records.values():
        head = parse_record(entry.value)
        manifest = await read_manifest(store, head, parts)
        keys |= {keyspace.chunk(digest) for digest in used(head, parts)}
        keys |= {keyspace.policy(item.digest) for item in manifest.values()}
    return keys


def _reported(found: Iterable[Member]) -> set[int]:
    return {
        number
        for member in found
        if member.is_alive
        for number in (member.status.revision, member.status.seen)
    }


def _number(key: str) -> int:
    return int(key.removeprefix(keyspace.REVISIONS))
