"""Reading: keys below the store's base, prefixes as etcd's ranges, scans at one revision."""

from aetcd.rpc import kv_pb2 as kv
from aetcd.rpc import rpc_pb2 as pb

from mesh.adapters.etcd.members import METADATA, Compacted, Member, Members
from mesh.errors import Unavailable
from mesh.ports import Entry

PAGE = 500
# A scan that is overtaken by compaction starts over.
SCAN_TRIES = 5


def range_of(base: bytes, prefix: str) -> tuple[bytes, bytes]:
    """The first key that starts with `prefix` and the first after them (etcd's `range_end`).

    No byte of UTF-8 is 255 and `base` is never empty, so the last byte can be counted up.
    """
    start = base + prefix.encode()
    return start, start[:-1] + bytes((start[-1] + 1,))


def entry_of(base: bytes, pair: kv.KeyValue) -> Entry:
    """Etcd's key and value as ours."""
    return Entry(pair.key[len(base) :].decode(), pair.value, pair.mod_revision)


async def scan(
    members: Members, base: bytes, prefix: str, *, keys_only: bool = False
) -> tuple[dict[str, Entry], int]:
    """All entries under `prefix` in key order, and the revision at which they are so."""
    for _ in range(SCAN_TRIES):
        try:
            return await _scan(members, base, prefix, keys_only)
        except Compacted:
            continue
    raise Unavailable("etcd compacts faster than the store can be read")


async def _scan(
    members: Members, base: bytes, prefix: str, keys_only: bool
) -> tuple[dict[str, Entry], int]:
    start, end = range_of(base, prefix)
    entries: dict[str, Entry] = {}
    revision = 0
    while True:
        request = pb.RangeRequest(
            key=start, range_end=end, limit=PAGE, revision=revision, keys_only=keys_only
        )

        async def send(
            member: Member, seconds: float, request: pb.RangeRequest = request
        ) -> pb.RangeResponse:
            return await member.kv.Range(request, timeout=seconds, metadata=METADATA)

        page = await members.repeat(send)
        revision = revision or page.header.revision
        found = (entry_of(base, pair) for pair in page.kvs)
        entries.update((entry.key, entry) for entry in found)
        if not page.more:
            return entries, revision
        start = page.kvs[-1].key + b"\0"
