"""What the sidecar's tests share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesh.adapters.embedded import EmbeddedStore
from tests.support.revisions import CLOCK, Commits


@pytest.fixture
async def commits(tmp_path: Path) -> AsyncIterator[Commits]:
    async with EmbeddedStore(tmp_path / "mesh.db", clock=CLOCK) as store:
        yield Commits(store, tmp_path)
