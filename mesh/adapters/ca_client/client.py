"""`Issuer` over the service: what proves this host, and which roots prove the service.

The very first connection is authenticated by what MESH_CA brings: the fingerprint of a root, or
a file of roots. From then on the roots that the authority itself tells are used, and kept in a
file of this host, so that a rotation needs no new setting.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog

from mesh import tls
from mesh.adapters.ca_client import learned
from mesh.adapters.ca_client.wire import OTHER_CLOCK, HungUp, Untrusted, Wire
from mesh.ca import chain, tokens
from mesh.ca.bundle import read_bundle
from mesh.errors import CertificateRefused, Denied, InputError, Unavailable
from mesh.model.identity import SVID, Identity, TrustBundle
from mesh.ports import Clock

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """Where the service is and how it is known: `fingerprints` (`sha256:` and the hexadecimal
    digest of a root certificate's DER form) or the file `cacert`. `learned` is where its own
    roots are kept.
    """

    host: str
    port: int
    fingerprints: tuple[str, ...] = ()
    cacert: Path | None = None
    token_file: Path | None = None
    learned: Path


class ServiceIssuer:
    """`Issuer` over HTTPS. `trust_domain` is that of the mesh which the caller belongs to; None
    takes the authority's.

    Every method may raise Unavailable (nobody answers) or Denied (the service is not the one of
    the settings, or wants another proof); each message is told with its remedy.
    """

    def __init__(
        self, settings: ServiceSettings, *, clock: Clock, trust_domain: str | None = None
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._wire = Wire(settings.host, settings.port, clock)
        self._trust_domain = trust_domain
        self._known: TrustBundle | None = None
        self._is_loaded = False

    async def issue(
        self,
        identity: Identity,
        csr_pem: bytes,
        lifetime: timedelta,
        current: SVID | None = None,
    ) -> bytes:
        """As `Issuer.issue`: a renewal where `current` is valid and the authority's own, else a
        join.
        """
        ask = {"csr": csr_pem.decode(), "lifetime_seconds": lifetime.total_seconds()}
        if current is not None and await self._proves(current):
            try:
                return await self._signed("/v1/renew", ask, svid=current)
            except Denied as error:
                if self._settings.token_file is None:
                    raise
                _log.warning("a renewal was refused, joining anew", reason=error.message)
            except HungUp as error:
                await self._explain(error, current)
        ask |= {
            "trust_domain": identity.trust_domain,
            "namespace": identity.service.namespace,
            "service": identity.service.name,
        }
        token = await asyncio.to_thread(self._token, identity, current)
        return await self._signed("/v1/join", ask, {"Authorization": f"Bearer {token}"})

    async def bundle(self) -> TrustBundle:
        """The authority's own roots, as it told them last; asked for where it told none yet."""
        known = await self._learned()
        return known if known is not None else await self.fresh_bundle()

    async def fresh_bundle(self) -> TrustBundle:
        """The authority's own roots as of now."""
        return await self._learn(await self._call("GET", "/v1/bundle"))

    async def health(self) -> Mapping[str, Any]:
        """What the service answers when it is asked how it is."""
        health: Mapping[str, Any] = await self._call("GET", "/healthz")
        return health

    # --- proofs ------------------------------------------------------------------------------

    async def _proves(self, current: SVID) -> bool:
        """Whether the authority would take a certificate: valid, and under a root of its own."""
        if current.not_after <= self._clock.now():
            return False
        return self._is_under(current, await self.bundle()) or self._is_under(
            current, await self.fresh_bundle()
        )

    async def _explain(self, error: HungUp, current: SVID) -> None:
        """Why the service hung up on a certificate: one of a root that it does not have any more
        asks for a join.

        Raises:
            Unavailable: it has that root.
        """
        if self._is_under(current, await self.fresh_bundle()):
            raise Unavailable(
                f"{error.message}, when it was shown this host's certificate, which is valid until "
                f"{current.not_after:%Y-%m-%d %H:%M:%S}Z; the clock here says "
                f"{self._clock.now():%Y-%m-%d %H:%M:%S}Z",
                OTHER_CLOCK,
            ) from error
        _log.warning("the authority lost the root of the certificate, joining anew")

    def _is_under(self, current: SVID, bundle: TrustBundle) -> bool:
        try:
            certificates = chain.read_certificates(current.chain_pem)
            chain.verify(current.identity, certificates, bundle, self._clock.now())
        except CertificateRefused:
            return False
        return True

    def _token(self, identity: Identity, current: SVID | None) -> str:
        service = identity.service
        make = f"mesh token create --service {service.name} --namespace {service.namespace}"
        hint = f"make one with `{make}`, and name its file by MESH_TOKEN_FILE"
        why = "this host has no certificate yet, and"
        if current is not None:
            why, now = "the current certificate is of another authority, and", self._clock.now()
            if current.not_after <= now:
                why = f"the certificate expired at {current.not_after:%Y-%m-%d %H:%M:%S}Z, and"
            elif now < current.not_before:
                start = f"{current.not_before:%Y-%m-%d %H:%M:%S}Z"
                why = f"by this host's clock the certificate is not valid before {start}, and"
                hint = OTHER_CLOCK
        file = self._settings.token_file
        if file is None:
            raise Denied(f"{why} there is no join token: MESH_TOKEN_FILE is not set", hint)
        try:
            token = file.read_text(encoding="ascii", errors="replace").strip()
        except OSError as error:
            message = f'{why} the join token "{file}" cannot be read: {error.strerror}'
            raise Denied(message, hint) from error
        if not tokens.is_token(token):
            raise Denied(f'{why} "{file}" holds no join token', hint)
        return token

    async def _signed(
        self,
        path: str,
        ask: Mapping[str, Any],
        headers: Mapping[str, str] | None = None,
        svid: SVID | None = None,
    ) -> bytes:
        answer = await self._call("POST", path, ask, headers, svid)
        try:
            await self._learn(answer["bundle"])
            chain_pem = str(answer["chain"]).encode()
        except (KeyError, TypeError) as error:
            raise self._wire.strange(repr(error)) from error
        leaf, now = chain.read_certificates(chain_pem)[0], self._clock.now()
        if not leaf.not_valid_before_utc <= now < leaf.not_valid_after_utc:
            raise Denied(
                f"the new certificate is valid from {leaf.not_valid_before_utc:%Y-%m-%d %H:%M:%S}Z "
                f"to {leaf.not_valid_after_utc:%Y-%m-%d %H:%M:%S}Z, but this host's clock says "
                f"{now:%Y-%m-%d %H:%M:%S}Z",
                OTHER_CLOCK,
            )
        return chain_pem

    # --- roots -------------------------------------------------------------------------------

    async def _learned(self) -> TrustBundle | None:
        if not self._is_loaded:
            self._known = await asyncio.to_thread(learned.load, self._settings.learned)
            self._is_loaded = True
        return self._known

    async def _learn(self, answer: Any) -> TrustBundle:
        """Keep what an authenticated answer said."""
        try:
            bundle = read_bundle(answer)
            chain.read_certificates(bundle.roots_pem)
        except (KeyError, TypeError, AttributeError, CertificateRefused) as error:
            raise self._wire.strange(repr(error)) from error
        if self._trust_domain not in (None, bundle.trust_domain):
            raise Denied(
                f'the authority at {self._wire.url} is of trust domain "{bundle.trust_domain}",'
                f' this mesh is "{self._trust_domain}"',
                "MESH_CA and MESH_STORE belong to different meshes, or the Mesh document names "
                "another trustDomain than the authority was made with",
            )
        if bundle != self._known:
            self._known, self._is_loaded = bundle, True
            await asyncio.to_thread(learned.save, self._settings.learned, bundle)
        return bundle

    async def _configured(self) -> bytes:
        """The roots that the settings vouch for."""
        settings = self._settings
        if settings.cacert is not None:
            try:
                roots = await asyncio.to_thread(settings.cacert.read_bytes)
                return chain.to_pem(*chain.read_certificates(roots))
            except OSError as error:
                message = f'the file "{settings.cacert}" cannot be read: {error.strerror}'
                raise InputError(message, "see cacert= in MESH_CA") from error
            except CertificateRefused as error:
                message = f'the file "{settings.cacert}" is {error.message}'
                raise InputError(message, "see cacert= in MESH_CA") from error
        # Read from anybody, believed by nothing but the fingerprint; no secret is sent.
        answer = await self._wire.request(tls.unverified_context(), "GET", "/v1/bundle")
        try:
            told = chain.read_certificates(read_bundle(answer).roots_pem)
        except (KeyError, TypeError, AttributeError, CertificateRefused) as error:
            raise self._wire.strange(repr(error)) from error
        pinned = [root for root in told if chain.fingerprint(root) in settings.fingerprints]
        if not pinned:
            raise Denied(
                f"the authority at {self._wire.url} has the root "
                f"{' '.join(chain.fingerprint(root) for root in told)}, not the one of MESH_CA, "
                f"{' '.join(settings.fingerprints)}",
                "compare with `mesh ca status` on the authority's host: the setting is old or "
                "wrong, or somebody else answers",
            )
        return chain.to_pem(*pinned)

    # --- the wire ----------------------------------------------------------------------------

    async def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        svid: SVID | None = None,
    ) -> Any:
        """An authenticated exchange. What was learned is tried first, then the settings."""
        known = await self._learned()
        proof = (svid.chain_pem, svid.private_key_pem) if svid else ()
        if known is not None:
            with contextlib.suppress(Untrusted):
                context = tls.client_context(known.roots_pem, *proof)
                return await self._wire.request(context, method, path, body, headers)
        context = tls.client_context(await self._configured(), *proof)
        try:
            return await self._wire.request(context, method, path, body, headers)
        except Untrusted as error:
            raise Denied(
                f"the certificate of {self._wire.url} does not lead to the root of MESH_CA: "
                f"{error}",
                "take MESH_CA from the ready line of `mesh ca serve`; somebody else may answer",
            ) from error
