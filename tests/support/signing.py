"""Keys that sign commits, made by `ssh-keygen`."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.repositories import Origin


@dataclass(frozen=True, slots=True)
class Signer:
    """An SSH key; `key` is the private one's file."""

    key: Path

    @classmethod
    def make(cls, key: Path) -> "Signer":
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(key)], check=True
        )
        return cls(key)

    def allow(self, file: Path) -> Path:
        """A file of allowed signers that has this one alone."""
        public = self.key.with_suffix(".pub").read_text()
        file.write_text(f'ann@example.org namespaces="git" {public}')
        return file

    def sign(self, origin: Origin) -> None:
        """From now on commits of the repository are signed by this key."""
        for name, value in (
            ("gpg.format", "ssh"),
            ("user.signingKey", str(self.key)),
            ("commit.gpgSign", "true"),
        ):
            origin.git("config", name, value)
