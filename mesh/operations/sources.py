"""The sources that follow a git repository, as their syncs report them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from mesh.model.source import SourceStatus
from mesh.planning import keyspace
from mesh.planning.source_codec import decode_source
from mesh.ports import Entry, Store


@dataclass(frozen=True, slots=True)
class Followed:
    """A source's report; `leader` names the sync that works on it, None while there is none."""

    status: SourceStatus
    leader: str | None


async def read_sources(store: Store) -> tuple[Followed, ...]:
    """Every source that a sync reported, by name."""
    return sources(await store.scan(keyspace.SYNC))


async def read_source(store: Store, name: str) -> SourceStatus | None:
    """The last report of one source."""
    key = keyspace.sync(name, keyspace.STATUS)
    entry = (await store.fetch([key])).get(key)
    return None if entry is None else decode_source(entry.value)


def sources(entries: Mapping[str, Entry]) -> tuple[Followed, ...]:
    """The sources in what a scan or watch of `sync/` gave, by name."""
    found = []
    for key, entry in sorted(entries.items()):
        if key.endswith(f"/{keyspace.STATUS}"):
            status = decode_source(entry.value)
            leader = entries.get(keyspace.sync(status.source, keyspace.LEADER))
            found.append(Followed(status, None if leader is None else leader_name(leader.value)))
    return tuple(found)


def write_leader(name: str, token: str) -> bytes:
    """What `sync/<source>/leader` holds; `token` is unique to who writes it."""
    return json.dumps({"name": name, "token": token}).encode()


def leader_name(data: bytes) -> str:
    """Who leads; bytes that nobody can read lead all the same."""
    try:
        return str(json.loads(data)["name"])
    except (ValueError, KeyError, TypeError):
        return "unknown"
