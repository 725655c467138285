"""The authority's root and, for each service named, a join token, as files of a folder.

joins.py FOLDER SERVICE...

It does what `mesh token create` does, for all services in one process. Tokens are made anew at
each start: what has joined does not need its own any more.
"""

import asyncio
import json
import os
import sys
from datetime import timedelta
from pathlib import Path

from mesh.adapters.clock import SystemClock
from mesh.authority.registry import Registry
from mesh.cli.wiring import open_store
from mesh.model.identity import ServiceName
from mesh.planning import keyspace
from mesh.settings import read_settings

USER = 10001


async def main(folder: Path, services: list[str]) -> None:
    """Write the files; the sidecars start when this has ended."""
    clock = SystemClock()
    async with open_store(read_settings({}, os.environ), clock) as store:
        registry = Registry(store, clock)
        for service in services:
            name = ServiceName("default", service)
            token, _ = await registry.create(name, ttl=timedelta(hours=24), uses=20)
            write(folder / service, token)
        bundle = (await store.fetch([keyspace.TRUST_BUNDLE]))[keyspace.TRUST_BUNDLE]
    write(folder / "ca.pem", json.loads(bundle.value)["roots"])


def write(path: Path, text: str) -> None:
    """A file for the sidecars' user alone."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        file.write(text)
    os.chown(path, USER, USER)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2:]))
