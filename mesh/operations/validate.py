"""Validation: every mistake of a set of documents, offline."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from mesh.diagnostics import Diagnostic, Severity
from mesh.operations.drafting import check_all
from mesh.operations.reading import read_paths


@dataclass(frozen=True, slots=True)
class Validated:
    """How many documents were read, and everything there is to say about them, by place."""

    documents: int
    diagnostics: tuple[Diagnostic, ...]

    @property
    def is_valid(self) -> bool:
        """Whether the set may be applied; warnings may remain."""
        return all(item.severity is not Severity.ERROR for item in self.diagnostics)


async def validate(paths: Sequence[str], *, partial: bool = False) -> Validated:
    """Check the documents in `paths` as one whole set. `partial`: they are a part of one, and
    what they refer to may be elsewhere (a warning).
    """
    reading = await asyncio.to_thread(read_paths, paths)
    drafted = check_all(reading, partial=partial)
    return Validated(drafted.documents, drafted.diagnostics)
