"""Head only moves forward: a store that was restored from a backup rolls nobody back by itself.

A sidecar that follows a head takes a newer revision and nothing else. An older one, another one of
the same number or none at all is refused until somebody commits a revision above it, which
`mesh apply --accept-restore` does: whether what the backup lacks shall be lost is for a person to
say. What was remembered from an earlier start binds to the same history only: a sidecar that is
started on the store of another mesh follows that one.
"""

from mesh.errors import HeadWentBack
from mesh.planning.record import Head

HINT = (
    "was the store restored from a backup? this sidecar keeps what it has; apply the documents "
    "of today, or `mesh rollback N` to what shall hold, with --accept-restore"
)


class Ratchet:
    """What was accepted last, and whether a head may follow it."""

    def __init__(self) -> None:
        self._accepted: Head | None = None
        self._is_remembered = False

    def remember(self, head: Head | None) -> None:
        """Take what an earlier start of this sidecar accepted."""
        self._accepted, self._is_remembered = head, head is not None

    def check(self, head: Head | None) -> None:
        """Whether `head`, None for a store without any revision, may be followed.

        Raises:
            HeadWentBack: it may not.
        """
        accepted = self._accepted
        if accepted is None:
            return
        number = accepted.revision.number
        if head is None:
            raise HeadWentBack(f"the store has no revision any more; {number} was its head", HINT)
        found = head.revision.number
        if found > number or head.change == accepted.change:
            return
        if self._is_remembered and _are_strangers(head, accepted):
            return
        if found == number:
            raise HeadWentBack(f"the store's revision {number} is another one than before", HINT)
        raise HeadWentBack(f"the store's head went back from revision {number} to {found}", HINT)

    def accept(self, head: Head | None) -> None:
        """Nothing older than `head` is taken from now on."""
        if head is not None:
            self._accepted, self._is_remembered = head, False


def _are_strangers(one: Head, other: Head) -> bool:
    """Whether they are of two histories; a record without an origin may be of any."""
    return bool(one.origin and other.origin) and one.origin != other.origin
