"""The composition root of `mesh sync`: what it needs of the outside world."""

from collections.abc import Callable

from mesh.adapters.clock import SystemClock
from mesh.adapters.git import GitOptions, GitRepository, cache_name
from mesh.cli.wiring import make_store
from mesh.model.source import SourceStatus
from mesh.settings import Settings
from mesh.sync.options import SyncPorts


def sync_ports(
    settings: Settings, git: GitOptions, source: str, tell: Callable[[SourceStatus], None]
) -> SyncPorts:
    """The ports of a sync of `source` from the repository that `git` names."""
    clock = SystemClock()
    folder = settings.state / "sync" / cache_name(source, git.url)
    return SyncPorts(
        clock=clock,
        store=lambda: make_store(settings, clock),
        repository=lambda: GitRepository(folder, git),
        tell=tell,
    )
