"""What git's plumbing says, as values."""

from collections.abc import Iterator
from typing import Final

from mesh.errors import Corrupted
from mesh.model.source import Blob, BlobKind

_KINDS: Final = {
    b"100644": BlobKind.FILE,
    b"100755": BlobKind.FILE,
    b"100664": BlobKind.FILE,  # written by very old versions of git
    b"120000": BlobKind.LINK,
    b"160000": BlobKind.SUBMODULE,
}


def tree(listing: bytes, prefix: str) -> tuple[Blob, ...]:
    """The files, links and submodules in what `git ls-tree -z` says, by name, without folders.

    A name that is no UTF-8 has replacement characters.
    """
    found = []
    for line in listing.split(b"\0"):
        if not line:
            continue
        facts, _, name = line.partition(b"\t")
        mode, _, id = facts.split(b" ")
        if mode in _KINDS:
            text = prefix + name.decode(errors="replace")
            found.append(Blob(text, id.decode(), _KINDS[mode]))
    return tuple(sorted(found))


def object_sizes(told: bytes) -> dict[str, int]:
    """Sizes by hash, of what `git cat-file --batch-check` has; the missing are left out."""
    sizes = {}
    for line in told.decode().splitlines():
        words = line.split(" ")
        if len(words) == 3:  # noqa: PLR2004 (hash, type, size)
            sizes[words[0]] = int(words[2])
    return sizes


def objects(told: bytes) -> dict[str, bytes]:
    """Contents by hash, from what `git cat-file --batch` says.

    Raises:
        Corrupted: it ends early.
    """
    return dict(_objects(told))


def _objects(told: bytes) -> Iterator[tuple[str, bytes]]:
    start = 0
    while start < len(told):
        end = told.find(b"\n", start)
        words = told[start:end].decode(errors="replace").split(" ")
        if end < 0 or len(words) != 3 or len(told) < end + 1 + int(words[2]):  # noqa: PLR2004
            raise Corrupted("git ended in the middle of an object")
        size = int(words[2])
        yield words[0], told[end + 1 : end + 1 + size]
        start = end + 1 + size + 1
