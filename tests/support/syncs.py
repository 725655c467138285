"""A source that follows a repository, on a store of a test's own folder."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from mesh.adapters.embedded import EmbeddedStore
from mesh.adapters.git import GitOptions, GitRepository
from mesh.latest import Latest
from mesh.model.source import SourceStatus
from mesh.sync.follower import Follower, Looked
from mesh.sync.options import SyncOptions, SyncPorts
from mesh.sync.reports import write_report
from tests.support.operations import CLOCK, opened
from tests.support.repositories import Origin


def options(**changes: Any) -> SyncOptions:
    """Looks often; nobody waits long."""
    plain = SyncOptions(
        source="main",
        repository="the repository",
        branch="main",
        path="policies",
        name="test",
        interval=timedelta(milliseconds=50),
        patience=timedelta(seconds=5),
    )
    return replace(plain, **changes)


@dataclass(slots=True)
class Following:
    """A follower, one look at a time, each with its report written as a sync does."""

    store: EmbeddedStore
    repository: GitRepository
    follower: Follower

    async def look(self) -> Looked:
        looked = await self.follower.look()
        await write_report(self.store, looked.status)
        return looked

    def again(self, **changes: Any) -> None:
        """As after a restart with other options."""
        self.follower = Follower(options(**changes), self.store, CLOCK, self.repository)


@asynccontextmanager
async def following(origin: Origin, folder: Path, **changes: Any) -> AsyncIterator[Following]:
    """A follower of `origin` whose store and cache are in `folder`."""
    git = GitOptions(url=origin.url, signers=changes.pop("signers", None))
    async with opened(folder) as store, GitRepository(folder / "cache", git) as repository:
        assert isinstance(store, EmbeddedStore)
        follower = Follower(options(**changes), store, CLOCK, repository)
        yield Following(store, repository, follower)


@dataclass(slots=True)
class Reports:
    """What a sync tells."""

    newest: Latest[SourceStatus | None] = field(default_factory=lambda: Latest(None))

    def ports(self, origin: Origin, folder: Path, cache: str = "cache") -> SyncPorts:
        git = GitOptions(url=origin.url)
        return SyncPorts(
            clock=CLOCK,
            store=lambda: EmbeddedStore(folder / "mesh.db", clock=CLOCK),
            repository=lambda: GitRepository(folder / cache, git),
            tell=self.newest.set,
        )
