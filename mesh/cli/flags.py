"""The global options as they were given; apart from typer, for the agent that outlives it."""

import os
from dataclasses import dataclass
from pathlib import Path

from mesh.errors import UsageError
from mesh.settings import Settings, read_settings


@dataclass(frozen=True, slots=True)
class Flags:
    """The global options as given."""

    store: str | None = None
    discovery: str | None = None
    ca: str | None = None
    state: str | None = None
    config: str | None = None
    verbose: bool = False

    def settings(self) -> Settings:
        """What they mean, with the environment and `mesh.toml`.

        Raises:
            UsageError: one of them is wrong.
        """
        given = {
            "store": self.store,
            "discovery": self.discovery,
            "ca": self.ca,
            "state": self.state,
        }
        config = None
        if self.config is not None:
            config = Path(self.config)
            if not config.is_file():
                raise UsageError(f'--config: there is no file "{config}"')
        return read_settings(given, os.environ, config)
