"""What a sync is told, and what it needs of the outside world."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from mesh.model.source import SourceStatus
from mesh.ports import Clock, Repository, Store


class Drift(StrEnum):
    """What becomes of documents that somebody applied by hand to the source.

    SHOW: they stay, and the status says so. REPAIR: the commit is applied again. LEAVE: they stay.
    """

    SHOW = "show"
    REPAIR = "repair"
    LEAVE = "leave"


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncOptions:
    """`repository` and `branch` are for people: the port knows where to look. `path` is relative
    to the repository's root, "" is all of it. `name` is how the sync calls itself to others.
    `patience` is how long sidecars may take to accept a revision.
    """

    source: str
    repository: str
    branch: str
    path: str = ""
    name: str
    interval: timedelta = timedelta(seconds=30)
    patience: timedelta = timedelta(seconds=30)
    drift: Drift = Drift.SHOW
    resume: bool = False
    require_signature: bool = False
    allow_empty: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncPorts:
    """The outside world. `tell` is called with each report that says something new."""

    clock: Clock
    store: Callable[[], AbstractAsyncContextManager[Store]]
    repository: Callable[[], AbstractAsyncContextManager[Repository]]
    tell: Callable[[SourceStatus], None]
