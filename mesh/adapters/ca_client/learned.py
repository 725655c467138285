"""The authority's own roots as it told them last, in a file of this host."""

import json
import os
from pathlib import Path

import structlog

from mesh.ca import chain
from mesh.ca.bundle import read_bundle, write_bundle
from mesh.errors import CertificateRefused
from mesh.model.identity import TrustBundle

_log = structlog.get_logger(__name__)


def load(file: Path) -> TrustBundle | None:
    """The roots; None where there are none that can be read."""
    try:
        bundle = read_bundle(json.loads(file.read_bytes()))
        chain.read_certificates(bundle.roots_pem)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, CertificateRefused):
        return None  # the settings are asked
    return bundle


def save(file: Path, bundle: TrustBundle) -> None:
    """Replace the file as a whole. Without it the settings are asked again."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            json.dump(write_bundle(bundle), stream)
        temporary.replace(file)
    except OSError as error:
        _log.warning("the authority's roots cannot be kept", file=str(file), reason=str(error))
