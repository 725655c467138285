"""What the service's tests share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesh.adapters.embedded import EmbeddedStore
from mesh.ports import Store
from tests.support.authority import Service, serving
from tests.support.revisions import CLOCK


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with EmbeddedStore(tmp_path / "mesh.db", clock=CLOCK) as store:
        yield store


@pytest.fixture
async def service(tmp_path: Path, store: Store) -> AsyncIterator[Service]:
    async with serving(tmp_path / "ca", store) as service:
        yield service
