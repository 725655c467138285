"""A giant repository costs a sync the names in it and the policies, not its files."""

import random
import subprocess
from pathlib import Path

from mesh.adapters.git import GitOptions, GitRepository, Limits
from tests.support.repositories import Origin

FILES = 10_000
NOISE_BYTES = 16_000_000
MOST_BYTES = 3_000_000


def imported(origin: Origin, files: dict[str, bytes], parent: str = "") -> None:
    """Commit files without a folder of them: as `git fast-import` takes it."""
    stream = b"commit refs/heads/main\ncommitter Ann <ann@example.org> 1700000000 +0000\n"
    stream += b"data 1\n.\n" + (f"from {parent}\n".encode() if parent else b"")
    for name, content in files.items():
        stream += f"M 100644 inline {name}\ndata {len(content)}\n".encode() + content + b"\n"
    command = ("git", "-c", "core.compression=0", "fast-import", "--quiet")
    subprocess.run(command, cwd=origin.folder, input=stream, check=True, timeout=120)


async def test_a_giant_repository_costs_its_names_and_the_policies(tmp_path: Path) -> None:
    origin = Origin.make(tmp_path / "origin")
    elsewhere = {f"elsewhere/{number}.yaml": f"kind: {number}".encode() for number in range(FILES)}
    noise = {"elsewhere/noise.bin": random.Random(1).randbytes(NOISE_BYTES)}
    imported(origin, {**elsewhere, **noise, "policies/a.yaml": b"one"})
    # A fetch of more than the limit is refused, so that these looks are of less.
    options = GitOptions(url=origin.url, limits=Limits(pack_bytes=MOST_BYTES))
    async with GitRepository(tmp_path / "cache", options) as git:
        for text in (b"one", b"two"):
            blobs = await git.blobs(await git.newest(), "policies")
            assert list((await git.read(blobs)).values()) == [text]
            imported(origin, {"policies/a.yaml": b"two"}, parent="refs/heads/main^0")
    files = (file for file in (tmp_path / "cache").rglob("*") if file.is_file())
    assert sum(file.stat().st_size for file in files) < MOST_BYTES
