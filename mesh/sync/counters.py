"""What a sync counts of itself, for whoever shows figures."""

from dataclasses import dataclass, field
from datetime import datetime

from mesh.model.source import SourceStatus, SyncState


@dataclass(slots=True)
class Counters:
    """Since the process started. `failures` by error code; `is_leading` is whether this sync is
    the one that works; `lag_seconds` is from the commit's own time to its being applied, of the
    newest that was applied here.
    """

    is_leading: bool = False
    looks: int = 0
    applied: int = 0
    webhooks: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    lag_seconds: float = 0.0
    status: SourceStatus | None = None

    def note(self, status: SourceStatus, now: datetime) -> None:
        """Count a look by its report."""
        before = self.status
        self.looks += 1
        self.status = status
        if status.state is not SyncState.SYNCED:
            self.failures[status.code] = self.failures.get(status.code, 0) + 1
        elif status.commit and (before is None or before.applied != status.applied):
            self.applied += 1
            self.lag_seconds = max((now - status.commit.time).total_seconds(), 0.0)
