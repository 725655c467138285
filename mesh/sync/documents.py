"""The documents of a commit, chosen by the rules of a folder on the disk."""

from mesh.model.source import Blob, BlobKind, GitCommit
from mesh.operations.reading import Reading, is_read, take
from mesh.ports import Repository

_HINTS = {
    BlobKind.LINK: "commit the file itself, or keep links out of --path",
    BlobKind.SUBMODULE: "sync that repository as a source of its own, or keep it out of --path",
}


async def read_commit(repository: Repository, commit: GitCommit, path: str) -> Reading:
    """Every `*.yaml` and `*.yml` below `path`, hidden ones left out, named from the root.

    Links and submodules there are mistakes: what they lead to is not part of the commit.

    Raises:
        RefusedCommit: there is too much.
    """
    found = await repository.blobs(commit, path)
    shown = [blob for blob in found if not _is_hidden(blob.name, path)]
    files = [
        blob
        for blob in shown
        if blob.kind is BlobKind.FILE and (blob.name == path or is_read(blob.name))
    ]
    reading = Reading()
    for blob in shown:
        _refuse(blob, reading)
    contents = await repository.read(files)
    for blob in files:
        take(contents[blob.id], blob.name, reading)
    return reading


def _is_hidden(name: str, path: str) -> bool:
    below = name.removeprefix(f"{path}/") if path else name
    return below != path and any(part.startswith(".") for part in below.split("/"))


def _refuse(blob: Blob, reading: Reading) -> None:
    if blob.kind is not BlobKind.FILE:
        message = f"a {blob.kind.value} is not followed"
        reading.refuse(blob.name, "not-followed", message, _HINTS[blob.kind])
