"""Keys that sign commits, made by `ssh-keygen` and `gpg`."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

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


@dataclass(frozen=True, slots=True)
class KeyRing:
    """GnuPG's folder of somebody, with one key of theirs."""

    home: Path

    @property
    def environment(self) -> dict[str, str]:
        """What leads programs to it."""
        return {"GNUPGHOME": str(self.home)}

    def sign(self, origin: Origin) -> Origin:
        """The repository, in the hands of who signs each commit by this key."""
        for name, value in (
            ("gpg.format", "openpgp"),
            ("user.signingKey", "ann@example.org"),
            ("commit.gpgSign", "true"),
        ):
            origin.git("config", name, value)
        return Origin(origin.folder, self.environment)


@contextmanager
def key_ring() -> Iterator[KeyRing]:
    """One with a new key for commits of `Origin`; a visible skip where there is no gpg."""
    if not all(map(shutil.which, ("gpg", "gpgconf"))):
        pytest.skip("gpg is not installed: apt-get install gnupg")
    home = Path(tempfile.mkdtemp(prefix="gpg-"))  # short: its agent's socket lies there
    ring = KeyRing(home)
    environment = os.environ | ring.environment
    who = ("Ann Author <ann@example.org>", "ed25519", "sign", "never")
    key = ("gpg", "--batch", "--quiet", "--passphrase", "", "--quick-generate-key", *who)
    try:
        subprocess.run(key, env=environment, check=True, capture_output=True, timeout=60)
        yield ring
    finally:
        end = ("gpgconf", "--kill", "all")
        subprocess.run(end, env=environment, check=False, capture_output=True, timeout=60)
        shutil.rmtree(home)
