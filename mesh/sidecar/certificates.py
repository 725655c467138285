"""Keeping a certificate: asked for before listeners exist, renewed long before it ends.

The key is made here and never leaves this process but for the cache file and Envoy's memory.
"""

import random
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from mesh.ca import chain, request, rotation
from mesh.latest import Latest
from mesh.model.identity import SVID, Identity, ServiceName, TrustBundle
from mesh.model.policy import Mesh
from mesh.ports import Clock, Issuer
from mesh.sidecar.policies import Scope
from mesh.sidecar.retry import Outage, until_done
from mesh.sidecar.waiting import newer_within

# The wall clock is read at least this often: it may be set, and a host may sleep.
_LONGEST_WAIT = timedelta(minutes=1)

_log = structlog.get_logger(__name__)


class MeshIssuer:
    """The `Issuer` of the trust domain that the Mesh document in `scope` names."""

    def __init__(self, make: Callable[[str], Issuer], scope: Latest[Scope | None]) -> None:
        self._make = make
        self._scope = scope
        self._made: dict[str, Issuer] = {}

    async def issue(
        self,
        identity: Identity,
        csr_pem: bytes,
        lifetime: timedelta,
        current: SVID | None = None,
    ) -> bytes:
        """As `Issuer.issue`."""
        return await self._of(identity.trust_domain).issue(identity, csr_pem, lifetime, current)

    async def bundle(self) -> TrustBundle:
        """As `Issuer.bundle`; waits for the mesh's first revision."""
        async for scope in self._scope.changes():
            if scope is not None and scope.head is not None:
                return await self._of(scope.mesh.trust_domain).bundle()
        raise AssertionError("a cell never ends")

    def _of(self, trust_domain: str) -> Issuer:
        if trust_domain not in self._made:
            self._made[trust_domain] = self._make(trust_domain)
        return self._made[trust_domain]


class CertificateKeeper:
    """The certificate of `service` in `newest`, as the Mesh document in `scope` asks for it.

    A remembered one is used until its renewal is due. None until there is one, and none is asked
    for before the mesh has a first revision: that says which trust domain it is.
    """

    def __init__(
        self,
        issuer: Issuer,
        clock: Clock,
        service: ServiceName,
        scope: Latest[Scope | None],
        remembered: SVID | None = None,
    ) -> None:
        self._issuer = issuer
        self._clock = clock
        self._service = service
        self._scope = scope
        self._asked: timedelta | None = None
        self._jitter = random.random()  # noqa: S311 - spreads renewals, guards nothing
        self._outage = Outage("certificate authority")
        self._request: tuple[Identity, bytes, bytes] | None = None
        self.newest: Latest[SVID | None] = Latest(remembered)

    @property
    def is_authority_up(self) -> bool:
        """Whether the authority did what it was asked for last."""
        return self._outage.reason is None

    def trouble(self, now: datetime) -> str | None:
        """Why there is no certificate as asked for, or not for long; None while all is well."""
        reason, svid, scope = self._outage.reason, self.newest.value, self._scope.value
        if reason is None or scope is None:
            return None
        if svid is not None and svid.identity == self._identity(scope.mesh):
            left = svid.not_after - now
            if left > (svid.not_after - svid.not_before) / 5:
                return None
        remedy = f" ({self._outage.hint})" if self._outage.hint else ""
        return f"no certificate: {reason}{remedy}"

    async def run(self) -> None:
        """Keep it until cancelled."""
        while True:
            version = self._scope.version
            scope = self._scope.value
            wait = _LONGEST_WAIT
            if scope is not None and scope.head is not None:
                wait = min(self._until_due(scope.mesh), wait)
                if wait <= timedelta():
                    await until_done(self._clock, self._outage, self._renew)
                    continue
            await newer_within(self._scope, version, wait)

    def _until_due(self, mesh: Mesh) -> timedelta:
        svid, now = self.newest.value, self._clock.now()
        if svid is None or svid.identity != self._identity(mesh):
            return timedelta()
        lifetime = mesh.certificate_lifetime
        asked = self._asked or min(lifetime, svid.not_after - svid.not_before)
        if asked != lifetime and (self._asked or svid.not_after - now > lifetime):
            return timedelta()
        due = rotation.next_renewal(svid.not_before, svid.not_after, self._jitter)
        return due - now

    def _identity(self, mesh: Mesh) -> Identity:
        return Identity(mesh.trust_domain, self._service)

    async def _renew(self) -> None:
        scope = self._scope.value or Scope()
        identity, lifetime = self._identity(scope.mesh), scope.mesh.certificate_lifetime
        key_pem, csr_pem = self._request_for(identity)
        held = self.newest.value
        current = held if held is not None and held.identity == identity else None
        chain_pem = await self._issuer.issue(identity, csr_pem, lifetime, current)
        bundle = await self._issuer.bundle()
        svid = chain.read_svid(identity, chain_pem, key_pem, bundle, self._clock.now())
        self._asked = lifetime
        self._jitter = random.random()  # noqa: S311 - spreads renewals, guards nothing
        self._request = None
        self.newest.set(svid)
        _log.info("got a certificate", identity=identity.uri, not_after=svid.not_after.isoformat())

    def _request_for(self, identity: Identity) -> tuple[bytes, bytes]:
        """The key and its request; the same ones until an answer came through, so that an answer
        that was lost costs no join token.
        """
        if self._request is None or self._request[0] != identity:
            self._request = (identity, *request.new_key_and_csr(identity))
        return self._request[1:]
