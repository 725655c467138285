"""A sync's counters as Prometheus reads them."""

from mesh.metrics.family import Family, Sample, counter, gauge
from mesh.model.source import SyncState
from mesh.sync.counters import Counters


def figures(counted: Counters, source: str) -> tuple[Family, ...]:
    """The families of the sync of `source`. One that stands by knows no state."""
    here = {"source": source}
    status = counted.status
    states = [] if status is None else [(each, status.state is each) for each in SyncState]
    checked = status.checked if status else None
    return (
        gauge(
            "mesh_sync_leading",
            "Whether this sync is the one that works.",
            Sample(float(counted.is_leading), here),
        ),
        gauge(
            "mesh_sync_state",
            "1 for the state that the source is in.",
            *(Sample(float(is_it), here | {"state": state}) for state, is_it in states),
        ),
        gauge(
            "mesh_sync_revision",
            "The revision that the commit in force came with.",
            *([Sample(status.revision, here)] if status else []),
        ),
        gauge(
            "mesh_sync_checked_timestamp_seconds",
            "When the repository last answered, in seconds since 1970.",
            *([Sample(checked.timestamp(), here)] if checked else []),
        ),
        gauge(
            "mesh_sync_commit_age_seconds",
            "How old the newest applied commit was when it was applied.",
            *([Sample(counted.lag_seconds, here)] if counted.applied else []),
        ),
        counter("mesh_sync_looks_total", "Looks at the repository.", Sample(counted.looks, here)),
        counter("mesh_sync_applied_total", "Commits applied.", Sample(counted.applied, here)),
        counter(
            "mesh_sync_webhooks_total", "Calls of the webhook.", Sample(counted.webhooks, here)
        ),
        counter(
            "mesh_sync_failures_total",
            "Looks that ended in another state than synced, by the error's code.",
            *(Sample(n, here | {"code": code}) for code, n in sorted(counted.failures.items())),
        ),
    )
