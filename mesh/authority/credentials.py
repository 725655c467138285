"""The server's own certificate: made at the start, replaced at half of its life and whenever the
roots change, without closing a connection.
"""

import ssl
from collections.abc import Sequence
from datetime import datetime

import structlog

from mesh import tls
from mesh.authority.ports import Signer
from mesh.ca.chain import read_certificates
from mesh.ca.request import server_key_and_csr
from mesh.model.identity import TrustBundle
from mesh.ports import Clock

_log = structlog.get_logger(__name__)


class Credentials:
    """The TLS side of the service: `context` is for its listener, and follows `refresh`.

    The key is made here for each certificate and is nowhere but in this process's memory.
    """

    def __init__(self, signer: Signer, clock: Clock, names: Sequence[str]) -> None:
        self._signer = signer
        self._clock = clock
        self._names = tuple(names)
        self._bundle: TrustBundle | None = None
        self._newest: ssl.SSLContext | None = None
        self._due: datetime | None = None
        self.not_after: dict[str, datetime] = {}

    async def context(self) -> ssl.SSLContext:
        """The context for a listener. Each handshake is done with the newest one."""
        await self.refresh()
        if self._newest is None:
            raise RuntimeError("refresh makes a context")
        self._newest.sni_callback = self._swap
        return self._newest

    async def refresh(self) -> TrustBundle:
        """Replace the certificate if that is due; the authority's own bundle.

        Raises:
            CertificateRefused: a name is none.
            MeshError: the signing core fails; the last certificate stays.
        """
        bundle = await self._signer.bundle()
        if bundle != self._bundle or self._due is None or self._clock.now() >= self._due:
            key_pem, csr_pem = server_key_and_csr()
            chain_pem = await self._signer.issue_server(self._names, csr_pem)
            self._newest = tls.server_context(chain_pem, key_pem, bundle.roots_pem)
            self._bundle = bundle
            self._note(chain_pem, bundle)
        return bundle

    def _note(self, chain_pem: bytes, bundle: TrustBundle) -> None:
        server, intermediate = read_certificates(chain_pem)
        now, end = self._clock.now(), server.not_valid_after_utc
        roots = [root.not_valid_after_utc for root in read_certificates(bundle.roots_pem)]
        self._due = now + (end - now) / 2
        self.not_after = {
            "root": min(roots),
            "intermediate": intermediate.not_valid_after_utc,
            "server": end,
        }
        _log.info("made the server's certificate", names=self._names, not_after=end.isoformat())

    def _swap(
        self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext
    ) -> None:
        """Called in each handshake, also in one without a server name."""
        if self._newest is not None:
            connection.context = self._newest
