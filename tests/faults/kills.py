"""`mesh apply` killed at every point: readers see the old set or the new one, whole (B19).

Each point starts a real `mesh apply`, a process of its own (`tests.faults.zygote`), and kills it
(-9) a little later than the one before, over the whole time that an undisturbed one takes. Then
everything that head leads to is read.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mesh.adapters.embedded import EmbeddedStore
from mesh.adapters.etcd import EtcdSettings, EtcdStore
from mesh.operations.state import read_objects, read_state
from mesh.ports import Store
from tests.faults.bed import Bed
from tests.faults.catalogue import fault
from tests.faults.load import CLOCK
from tests.support.servers import etcd

POINTS = int(os.environ.get("MESH_FAULT_POINTS", "40"))
# Of the time that an undisturbed apply takes.
FIRST = 0.1
LAST = 1.3
LONGEST = 120.0
# Services, and how many long paths an AccessPolicy of each names: 60 x 30 KB pass a request's size.
SIZES = {"1": (1, 0), "128": (128, 0), "129": (129, 0), "5,000": (5000, 0), "1.8 MB": (60, 60)}
SERVICE = """\
apiVersion: mesh/v1
kind: Service
metadata: {{name: s{number}}}
spec: {{protocol: http, port: {generation}}}
---
"""
ACCESS = """\
apiVersion: mesh/v1
kind: AccessPolicy
metadata: {{name: s{number}}}
spec:
  targetRefs: [{{kind: Service, name: s{number}}}]
  rules:
    - name: g{generation}
      action: allow
      from: [{{service: s0}}]
      to: [{{paths: [{paths}]}}]
---
"""


@dataclass(slots=True)
class Count:
    """What was seen."""

    points: int = 0
    old: int = 0
    new: int = 0
    half: int = 0
    lost: int = 0
    told: int = 0
    took: dict[str, float] = field(default_factory=dict)


@contextmanager
def _sqlite(folder: Path) -> Iterator[str]:
    yield f"sqlite:///{folder / 'mesh.db'}"


@contextmanager
def _etcd(folder: Path) -> Iterator[str]:
    # A real disk: what is acknowledged is on it.
    with etcd(folder, extra=["--unsafe-no-fsync=false"]) as server:
        yield f"etcd://{server.endpoint}/mesh"


@asynccontextmanager
async def _open(setting: str) -> AsyncIterator[Store]:
    async with AsyncExitStack() as stack:
        if setting.startswith("sqlite:///"):
            path = Path(setting.removeprefix("sqlite:///"))
            yield await stack.enter_async_context(EmbeddedStore(path, clock=CLOCK))
        else:
            endpoint = setting.removeprefix("etcd://").split("/")[0]
            settings = EtcdSettings(endpoints=(endpoint,))
            yield await stack.enter_async_context(EtcdStore(settings, clock=CLOCK))


def documents(size: int, paths: int, generation: int) -> str:
    """A set in which every document names its generation."""
    texts = [SERVICE.format(number=n, generation=generation) for n in range(size)]
    if paths:
        listed = ", ".join(f"{{exact: /{n:03d}{'x' * 480}}}" for n in range(paths))
        texts += [ACCESS.format(number=n, generation=generation, paths=listed) for n in range(size)]
    return "".join(texts)


def generation_of(data: bytes) -> int:
    """The generation that a document names."""
    spec = json.loads(data)["spec"]
    return int(spec["port"] if "port" in spec else spec["rules"][0]["name"][1:])


class Killing:
    """Kills of one store with one size. A context manager."""

    def __init__(self, folder: Path, setting: str, size: str) -> None:
        self._folder = folder
        self._services, self._paths = SIZES[size]
        self._size = self._services * (2 if self._paths else 1)
        self._setting = setting
        self._generation = 1000

    def __enter__(self) -> Self:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MESH_")}
        settings = {"MESH_STORE": self._setting, "MESH_STATE": str(self._folder / "state")}
        self._zygote = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.zygote"],
            env=kept | settings,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._zygote.kill()
        self._zygote.communicate()

    def _apply(self, within: float) -> tuple[dict[str, Any], int | None]:
        """Apply the next generation; how it ended, and the revision that it called done."""
        self._generation += 1
        file, out = self._folder / "set.yaml", self._folder / "out"
        file.write_text(documents(self._services, self._paths, self._generation))
        out.unlink(missing_ok=True)  # a process that is killed early leaves the last one's words
        argv = ["apply", str(file), "--yes", "--no-wait", "--output", "json"]
        order = {"argv": argv, "out": str(out), "within": within}
        assert self._zygote.stdin is not None
        assert self._zygote.stdout is not None
        self._zygote.stdin.write(json.dumps(order) + "\n")
        self._zygote.stdin.flush()
        ended = json.loads(self._zygote.stdout.readline())
        return ended, _revision(out.read_bytes() if out.exists() else b"")

    def undisturbed(self) -> float:
        """How long an apply takes."""
        ended, revision = self._apply(LONGEST)
        assert revision is not None, ended
        return float(ended["seconds"])

    async def kill_at(self, seconds: float, count: Count) -> None:
        """One point."""
        held = await self._generations()
        _, revision = await asyncio.to_thread(self._apply, seconds)
        found = await self._generations()
        count.points += 1
        count.told += revision is not None
        if found == {self._generation}:
            count.new += 1
        elif found == held:
            count.old += 1
            count.lost += revision is not None
        else:
            count.half += 1

    async def _generations(self) -> set[int]:
        """The generations of all documents that head leads to, each object read and checked."""
        async with _open(self._setting) as store:
            state = await read_state(store)
            objects = await read_objects(store, {e.digest for e in state.manifest.values()})
            if len(state.manifest) != self._size:
                return {len(state.manifest)}
            found = {digest: generation_of(data) for digest, data in objects.items()}
            return {found[entry.digest] for entry in state.manifest.values()}


def _revision(said: bytes) -> int | None:
    """The revision that an apply called done, where it got so far."""
    try:
        return int(json.loads(said)["revision"])
    except (ValueError, KeyError):
        return None


async def killed(store: str, sizes: list[str], points: int) -> Count:
    """Kill applies at `points` points for each of the sizes on `sqlite` or `etcd`."""
    count = Count()
    open_store = {"sqlite": _sqlite, "etcd": _etcd}[store]
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="mesh-kill-") as name:
            folder = Path(name)
            with open_store(folder) as setting, Killing(folder, setting, size) as killing:
                killing.undisturbed()
                whole = sorted(killing.undisturbed() for _ in range(3))[1]
                count.took[size] = whole
                for number in range(points):
                    share = FIRST + (LAST - FIRST) * number / max(points - 1, 1)
                    await killing.kill_at(whole * share, count)
    return count


async def _fault(bed: Bed, store: str) -> str:
    bed.is_writing = False
    bed.fault()
    count = await killed(store, list(SIZES), POINTS)
    bed.is_writing = True
    bed.mended()
    assert count.half == count.lost == 0, count
    return (
        f"{count.points} kills, sets of {', '.join(SIZES)}: {count.old} x the old set, "
        f"{count.new} x the new one, {count.half} x anything else; {count.told} told as done, "
        f"{count.lost} of them lost"
    )


@fault("apply-killed-sqlite", "`mesh apply` kill -9 at every point, SQLite (B19)")
async def sqlite_killed(bed: Bed) -> str:
    return await _fault(bed, "sqlite")


@fault("apply-killed-etcd", "`mesh apply` kill -9 at every point, etcd (B19)")
async def etcd_killed(bed: Bed) -> str:
    return await _fault(bed, "etcd")
