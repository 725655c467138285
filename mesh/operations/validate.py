"""Validation: every mistake of a set of documents, offline."""

import asyncio
from collections.abc import Sequence

from mesh.operations.drafting import Drafted, check
from mesh.operations.reading import read_paths


async def validate(paths: Sequence[str], *, partial: bool = False) -> Drafted:
    """Check the documents in `paths` as one whole set. `partial`: they are a part of one, and
    what they refer to may be elsewhere (a warning).
    """
    reading = await asyncio.to_thread(read_paths, paths)
    return check(reading, partial=partial)
