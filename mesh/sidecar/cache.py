"""The last good state on disk: what a host that starts with every server dead serves from.

Three files in the sidecar's folder, 0600, each replaced as a whole under a checksum: the scoped
revision, the catalog, the certificate with its key. A damaged or foreign file counts as absent.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import structlog

from mesh.errors import MeshError
from mesh.model.identity import ServiceName
from mesh.sidecar import folder
from mesh.sidecar.remembered import (
    JSON,
    Remembered,
    read_catalog,
    read_certificate,
    read_scope,
    write_catalog,
    write_certificate,
    write_scope,
)

_POLICIES = "policies.json"
_CATALOG = "catalog.json"
_CERTIFICATE = "certificate.json"
_FORMAT = 1

T = TypeVar("T")
_log = structlog.get_logger(__name__)


class Cache:
    """The cache of a sidecar of `service` in `place`. `save` writes only what changed."""

    def __init__(self, place: Path, service: ServiceName) -> None:
        self._place = place
        self._service = str(service)
        self._saved: dict[str, object] = {}

    async def load(self) -> Remembered:
        """What is on disk; what cannot be read is absent, so that the start is a clean one."""
        return await asyncio.to_thread(self._load)

    async def save(self, known: Remembered) -> None:
        """Put on disk what changed since the last call.

        Raises:
            OutsideError: the disk refused it; the older files stay whole.
        """
        await asyncio.to_thread(self._save, known)

    def _load(self) -> Remembered:
        svid, bundle = self._read(_CERTIFICATE, read_certificate) or (None, None)
        return Remembered(
            scope=self._read(_POLICIES, read_scope),
            catalog=self._read(_CATALOG, read_catalog),
            svid=svid,
            bundle=bundle,
        )

    def _read(self, name: str, parse: Callable[[JSON], T]) -> T | None:
        path = self._place / name
        content = folder.read_document(path)
        if content is None:
            if path.exists():
                _log.warning("a damaged cache file is left out", file=str(path))
            return None
        if (content.get("format"), content.get("service")) != (_FORMAT, self._service):
            return None  # another version's, or the id served another service before
        try:
            return parse(content)
        except (MeshError, ValueError, KeyError, TypeError, AttributeError) as error:
            _log.warning("a cache file cannot be used", file=str(path), reason=str(error))
            return None

    def _save(self, known: Remembered) -> None:
        scope, catalog = known.scope, known.catalog
        if scope is not None:
            self._write(_POLICIES, scope.head, lambda: write_scope(scope))
        if catalog is not None:
            self._write(_CATALOG, catalog, lambda: write_catalog(catalog))
        certificate = (known.svid, known.bundle)
        if any(certificate):
            self._write(_CERTIFICATE, certificate, lambda: write_certificate(*certificate))

    def _write(self, name: str, value: object, document: Callable[[], JSON]) -> None:
        if name in self._saved and self._saved[name] == value:
            return
        whose: JSON = {"format": _FORMAT, "service": self._service}
        folder.write_document(self._place / name, document() | whose)
        self._saved[name] = value
