"""The two kinds of store as tests open them, in this process and in another.

`python -m tests.support.stores ADDRESS COMMAND ...` is the other process:

    commit KEY VALUE    commit once
    watch PREFIX        print a line for each state: its keys and values
    flood COUNT         commit COUNT keys at one value, over and over; print each value after
"""

import asyncio
import itertools
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from mesh.adapters.clock import SystemClock
from mesh.adapters.embedded import EmbeddedStore
from mesh.adapters.etcd import EtcdSettings, EtcdStore
from mesh.ports import Put, Transaction

AnyStore = EmbeddedStore | EtcdStore
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Backend:
    """Where a store's data are: `embedded:PATH` or `etcd:HOST:PORT/PREFIX`."""

    address: str

    def open(self) -> AnyStore:
        """Another store on the same data; enter it."""
        kind, _, rest = self.address.partition(":")
        if kind == "embedded":
            return EmbeddedStore(Path(rest), clock=SystemClock())
        endpoint, _, prefix = rest.partition("/")
        return EtcdStore(EtcdSettings(endpoints=(endpoint,), prefix=prefix), clock=SystemClock())

    @contextmanager
    def process(self, *command: str) -> Iterator[subprocess.Popen[str]]:
        """Another process on the same data; its output is text, and it is gone afterwards."""
        arguments = [sys.executable, "-m", "tests.support.stores", self.address, *command]
        with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
            try:
                yield child
            finally:
                child.kill()


def numbered(count: int) -> list[str]:
    """The keys that `flood` writes."""
    return [f"flood/{n:03d}" for n in range(count)]


async def flood(store: AnyStore, count: int) -> None:
    """Commit for ever; every commit writes all keys, with one value."""
    for value in itertools.count(1):
        puts = tuple(Put(key, str(value).encode()) for key in numbered(count))
        await store.commit(Transaction(puts=puts))
        print(value, flush=True)  # noqa: T201


async def main(address: str, command: str, *arguments: str) -> None:
    """Run one command."""
    async with Backend(address).open() as store:
        match command, arguments:
            case "commit", (key, value):
                await store.commit(Transaction(puts=(Put(key, value.encode()),)))
            case "watch", (prefix,):
                async with aclosing(store.watch(prefix)) as states:
                    async for state in states:
                        shown = [f"{e.key}={e.value.decode()}" for e in state.entries.values()]
                        print(",".join(shown), flush=True)  # noqa: T201
            case "flood", (count,):
                await flood(store, int(count))
            case _:
                raise SystemExit(f"what is {command}?")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
