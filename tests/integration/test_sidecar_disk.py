"""A disk that is full, or that cannot be written: what commands say, and that sidecars serve on."""

import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.command import Mesh
from tests.support.mesh_host import Host, Spawned, more

DOCUMENTS = """
apiVersion: mesh/v1
kind: Service
metadata: {name: api}
spec: {protocol: http, port: PORT}
---
apiVersion: mesh/v1
kind: AccessPolicy
metadata: {name: api}
spec:
  targetRefs: [{kind: Service, name: api}]
  rules: [{name: web, action: allow, from: [{service: web}]}]
"""
ROOM = 8 << 20


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A file system of some megabytes in memory, mounted at `folder`."""
    folder.mkdir(mode=0o700)
    options = f"size={ROOM},mode=700"
    mount = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs to mount a file system: run as root")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(state: Path) -> Path:
    """A file that takes all the room there is."""
    path = state / "fill"
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return path


class Shop:
    def __init__(self, host: Host, web: Spawned) -> None:
        self.host = host
        self.web = web

    async def run(self, *words: str) -> tuple[int, dict[str, object]]:
        process = await self.host.mesh(*words, "--output", "json")
        out, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, json.loads(out)

    async def apply(self, port: int) -> tuple[int, dict[str, object]]:
        file = self.host.folder / "policies.yaml"
        file.write_text(DOCUMENTS.replace("PORT", str(port)))
        return await self.run("apply", str(file), "--yes")


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    host = Host()
    with small_disk(host.state):
        async with host:
            await host.apply(DOCUMENTS.replace("PORT", "80"))
            await host.spawn("api", host.apps("api")["api"])
            web = await host.spawn("web")
            await host.until(web, "api")
            yield Shop(host, web)


def traces(host: Host) -> str:
    return (host.folder / "mesh.log").read_text()


async def test_sidecars_serve_on_while_their_disk_is_full_and_follow_when_it_is_not(
    shop: Shop,
) -> None:
    async with shop.host.load(shop.web, "api", connections=2) as counts:
        filling = fill(shop.host.state)
        code, said = await shop.apply(81)
        assert (code, said["error"]["code"]) == (3, "out-of-space")
        code, said = await shop.run("sidecar", "--service", "other", "--outbound", "127.0.0.1:0")
        assert (code, said["error"]["code"]) == (3, "out-of-space")
        await more(counts, 100)
        filling.unlink()
        code, said = await shop.apply(82)
        assert (code, said["sidecars"]["accepted"]) == (0, 2)
        await more(counts, 20)
    # api's port is another one since the last change.
    assert set(counts) <= {"200", "404 unknown-host"}
    assert (await shop.host.ask(shop.web, "api:82")).status == 200
    assert "Traceback" not in traces(shop.host)


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("apply", "p.yaml", "--yes"),
        ("sidecar", "--service", "web", "--outbound", "127.0.0.1:0"),
        ("run", "--service", "web", "--", "true"),
        ("ca", "init"),
        ("doctor",),
    ],
)
def test_a_disk_that_cannot_be_written_is_told_by_every_command(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    mesh = Mesh(tmp_path)
    (tmp_path / "p.yaml").write_text(DOCUMENTS.replace("PORT", "80"))
    state = tmp_path / "state"
    with small_disk(state):
        assert mesh("apply", "p.yaml", "--yes").code == 0
        subprocess.run(["mount", "-o", "remount,ro", str(state)], check=True)
        ran = mesh(*words)
        assert ran.code == 3
        assert str(state) in ran.err + ran.out


@pytest.mark.parametrize("size", [0, 20, 1000])
def test_a_damaged_authority_is_told_with_what_to_do(tmp_path: Path, size: int) -> None:
    mesh = Mesh(tmp_path)
    assert mesh("ca", "init").code == 0
    file = tmp_path / "state" / "ca" / "ca.json"
    os.truncate(file, size)
    for words in (("ca", "status"), ("ca", "rotate"), ("doctor",)):
        ran = mesh(*words)
        assert ran.code == 3
        assert f'"{file}" is damaged' in ran.err + ran.out
    assert file.stat().st_size == size


@pytest.mark.parametrize("size", [100, 4096, 5000, 20_000])
def test_a_truncated_store_is_told_with_what_to_do(tmp_path: Path, size: int) -> None:
    mesh = Mesh(tmp_path)
    (tmp_path / "p.yaml").write_text(DOCUMENTS.replace("PORT", "80"))
    assert mesh("apply", "p.yaml", "--yes").code == 0
    file = tmp_path / "state" / "mesh.db"
    os.truncate(file, size)
    for words in (("status",), ("apply", "p.yaml", "--yes"), ("doctor",)):
        ran = mesh(*words)
        assert ran.code == 3, ran
        assert f'the store "{file}" is damaged' in ran.err + ran.out
        assert "restore a copy" in ran.err + ran.out
