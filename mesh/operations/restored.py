"""Noticing that the store is older than the mesh: it was restored from a backup, or wiped.

Sidecars keep what they run and say so (`sidecar.ratchet`); a commit on such a store would drop what
the backup lacks without a word. So it is refused until somebody accepts that.
"""

from collections.abc import Iterable

from mesh.errors import HeadWentBack
from mesh.operations.sidecars import Member
from mesh.operations.state import read_head
from mesh.ports import Store

HINT = (
    "the store was restored from a backup or wiped; look at `mesh history` and `mesh plan`, then "
    "apply the documents of today, or roll back to what shall hold, with --accept-restore"
)


def newest_run(members: Iterable[Member]) -> int:
    """The newest revision that a sidecar has taken, alive or silent; 0 without any."""
    statuses = [member.status for member in members]
    return max((max(item.revision, item.seen) for item in statuses), default=0)


async def read_ahead(store: Store, members: Iterable[Member], version: int) -> int:
    """The newest revision that sidecars have taken, where it is above the store's head; else 0.

    `version` is that of the key `head` when the caller read it, before `members`: reports of a
    commit in between are no sign of anything.
    """
    head, now = await read_head(store)
    newest = newest_run(members)
    number = head.revision.number if head else 0
    return newest if newest > number and now == version else 0


def went_back(head: int, ahead: int) -> HeadWentBack:
    """The refusal to commit at `head` while sidecars run `ahead`."""
    return HeadWentBack(f"head is revision {head}, but sidecars run {ahead}", HINT)
