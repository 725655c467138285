"""What a shell may complete beside commands and flags: kinds, and the names of documents."""

import asyncio
from collections.abc import Iterable

import typer

from mesh.cli.flags import Flags
from mesh.errors import MeshError

# A person waits for the key that they pressed.
_PATIENCE_SECONDS = 0.5


def kinds(incomplete: str) -> list[str]:
    """The kinds that begin like this."""
    from mesh.documents.schema import API_VERSIONS

    return _beginning(API_VERSIONS, incomplete)


def names(context: typer.Context, incomplete: str) -> list[str]:
    """The documents of the kind before it that begin like this; none where the store is away."""
    from mesh.adapters.clock import SystemClock
    from mesh.cli.wiring import open_store
    from mesh.operations.inspection import kind_of
    from mesh.operations.state import read_state

    async def read() -> list[str]:
        async with (
            asyncio.timeout(_PATIENCE_SECONDS),
            open_store(Flags().settings(), SystemClock()) as store,
        ):
            return [key.name for key in (await read_state(store)).manifest if key.kind == kind]

    try:
        kind = kind_of(str(context.params.get("kind")))
        return _beginning(dict.fromkeys(asyncio.run(read())), incomplete)
    except (MeshError, TimeoutError):
        return []


def _beginning(words: Iterable[str], incomplete: str) -> list[str]:
    return sorted(word for word in words if word.startswith(incomplete))
