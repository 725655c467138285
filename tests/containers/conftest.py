"""Containers on a Docker engine, from images of this machine only.

Without an engine or an image each test is a visible skip with the command that mends it; where
CI=true or MESH_REQUIRE_DOCKER=1 it is a failure.
"""

import os

# Read when testcontainers is imported: its reaper is an image of a registry.
os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")

from collections.abc import Iterator

import pytest
from testcontainers.core.network import Network

from mesh.testing import missing


def is_required() -> bool:
    return os.environ.get("CI") == "true" or os.environ.get("MESH_REQUIRE_DOCKER") == "1"


@pytest.fixture(scope="session", autouse=True)
def engine() -> None:
    """What every test here needs."""
    if reason := missing("mesh", "etcd", "consul", "prometheus", "redis"):
        (pytest.fail if is_required() else pytest.skip)(reason)


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with Network() as made:
        yield made
