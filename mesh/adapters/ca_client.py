"""Issuer over the certificate authority's service: joined by a token, renewed by what one holds.

The very first connection is authenticated by what MESH_CA brings: the fingerprint of a root, or
a file of roots. From then on the roots that the authority itself tells are used, and kept in a
file of this host, so that a rotation needs no new setting.
"""

import asyncio
import contextlib
import json
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog

from mesh import tls
from mesh.ca import chain, tokens
from mesh.ca.bundle import read_bundle, write_bundle
from mesh.errors import CertificateRefused, Denied, InputError, MeshError, Unavailable
from mesh.exchange import exchange, request
from mesh.model.identity import SVID, Identity, TrustBundle
from mesh.ports import Clock

ANSWER_SECONDS = 10.0
CONNECT_SECONDS = 5.0
_MOST_BYTES = 1 << 20
_OTHER_CLOCK = "compare the clocks of this host and of the authority's; run a time service on both"
# X509_V_ERR_* of OpenSSL's x509_vfy.h.
_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_NAME, _OTHER_ADDRESS = 62, 64

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

    @property
    def url(self) -> str:
        """Without what authenticates it."""
        return f"https://{self.host}:{self.port}"


class _Untrusted(Exception):
    """The server's certificate does not lead to the roots at hand."""


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
            why = "the current certificate is of another authority, and"
            if current.not_after <= self._clock.now():
                why = f"the certificate expired at {current.not_after:%Y-%m-%d %H:%M:%S}Z, and"
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
            raise self._strange(repr(error)) from error
        leaf, now = chain.read_certificates(chain_pem)[0], self._clock.now()
        if not leaf.not_valid_before_utc <= now < leaf.not_valid_after_utc:
            raise Denied(
                f"the new certificate is valid from {leaf.not_valid_before_utc:%Y-%m-%d %H:%M:%S}Z "
                f"to {leaf.not_valid_after_utc:%Y-%m-%d %H:%M:%S}Z, but this host's clock says "
                f"{now:%Y-%m-%d %H:%M:%S}Z",
                _OTHER_CLOCK,
            )
        return chain_pem

    # --- roots -------------------------------------------------------------------------------

    async def _learned(self) -> TrustBundle | None:
        if not self._is_loaded:
            self._known = await asyncio.to_thread(_load, self._settings.learned)
            self._is_loaded = True
        return self._known

    async def _learn(self, answer: Any) -> TrustBundle:
        """Keep what an authenticated answer said."""
        try:
            bundle = read_bundle(answer)
            chain.read_certificates(bundle.roots_pem)
        except (KeyError, TypeError, AttributeError, CertificateRefused) as error:
            raise self._strange(repr(error)) from error
        if self._trust_domain not in (None, bundle.trust_domain):
            raise Denied(
                f'the authority at {self._settings.url} is of trust domain "{bundle.trust_domain}",'
                f' this mesh is "{self._trust_domain}"',
                "MESH_CA and MESH_STORE belong to different meshes, or the Mesh document names "
                "another trustDomain than the authority was made with",
            )
        if bundle != self._known:
            self._known, self._is_loaded = bundle, True
            await asyncio.to_thread(_save, self._settings.learned, bundle)
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
        answer = await self._request(tls.unverified_context(), "GET", "/v1/bundle")
        try:
            told = chain.read_certificates(read_bundle(answer).roots_pem)
        except (KeyError, TypeError, AttributeError, CertificateRefused) as error:
            raise self._strange(repr(error)) from error
        pinned = [root for root in told if chain.fingerprint(root) in settings.fingerprints]
        if not pinned:
            raise Denied(
                f"the authority at {settings.url} has the root "
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
            with contextlib.suppress(_Untrusted):
                context = tls.client_context(known.roots_pem, *proof)
                return await self._request(context, method, path, body, headers)
        context = tls.client_context(await self._configured(), *proof)
        try:
            return await self._request(context, method, path, body, headers)
        except _Untrusted as error:
            raise Denied(
                f"the certificate of {self._settings.url} does not lead to the root of MESH_CA: "
                f"{error}",
                "take MESH_CA from the ready line of `mesh ca serve`; somebody else may answer",
            ) from error

    async def _request(
        self,
        context: ssl.SSLContext,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """One exchange on a connection of its own; what a 200 said.

        Raises:
            _Untrusted: the server's certificate is not under the context's roots.
            MeshError: anything else.
        """
        settings, url = self._settings, self._settings.url
        content = b"" if body is None else json.dumps(body).encode()
        sent = request(method, path, f"{settings.host}:{settings.port}", headers or {}, content)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                async with asyncio.timeout(CONNECT_SECONDS):
                    connection = await asyncio.open_connection(
                        settings.host.strip("[]"), settings.port, ssl=context
                    )
                answer = await exchange(*connection, sent, _MOST_BYTES)
        except ssl.SSLCertVerificationError as error:
            raise self._unverified(error) from error
        except TimeoutError as error:
            message = f"the certificate authority at {url} does not answer in time"
            raise Unavailable(message, self._down) from error
        except OSError as error:
            message = f"the certificate authority at {url} is out of reach: {_reason(error)}"
            raise Unavailable(message, self._down) from error
        except ValueError as error:
            raise self._strange(str(error)) from error
        return self._understood(answer.status, answer.body)

    @property
    def _down(self) -> str:
        return "see that `mesh ca serve` runs there and can be reached; it is tried again"

    def _unverified(self, error: ssl.SSLCertVerificationError) -> Exception:
        """What a refused server certificate means."""
        url, now = self._settings.url, self._clock.now()
        match error.verify_code:
            case code if code in (_NOT_YET_VALID, _EXPIRED):
                when = "is not valid yet" if code == _NOT_YET_VALID else "has expired"
                message = (
                    f"the certificate of {url} {when} by this host's clock, "
                    f"which says {now:%Y-%m-%d %H:%M:%S}Z"
                )
                return Denied(message, _OTHER_CLOCK)
            case code if code in (_OTHER_NAME, _OTHER_ADDRESS):
                return Denied(
                    f'the certificate of {url} is not for "{self._settings.host}"',
                    f"start it with `mesh ca serve --name {self._settings.host}`, or use in "
                    "MESH_CA a name that it has",
                )
            case _:
                return _Untrusted(error.verify_message or str(error))

    def _understood(self, status: int, content: bytes) -> Any:
        try:
            answer = json.loads(content)
            error = answer.get("error")
            if status == 200 and error is None:  # noqa: PLR2004
                return answer
            message, hint = str(error["message"]), str(error["hint"])
        except (ValueError, KeyError, TypeError, AttributeError) as problem:
            raise self._strange(f"status {status}") from problem
        raise _kind(status)(f"the certificate authority refuses: {message}", hint)

    def _strange(self, what: str) -> Unavailable:
        return Unavailable(
            f"{self._settings.url} does not answer as a certificate authority does: {what}",
            "see MESH_CA; it is the address of `mesh ca serve`",
        )


def _kind(status: int) -> type[MeshError]:
    match status:
        case 401 | 403:
            return Denied
        case 422:
            return CertificateRefused
        case _:
            return Unavailable


def _reason(error: OSError) -> str:
    """What happened, in the system's words."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).lower().replace("_", " ")
    if error.errno and error.errno > 0:
        return os.strerror(error.errno).lower()
    return str(error) or type(error).__name__


def _load(file: Path) -> TrustBundle | None:
    try:
        bundle = read_bundle(json.loads(file.read_bytes()))
        chain.read_certificates(bundle.roots_pem)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, CertificateRefused):
        return None  # the settings are asked
    return bundle


def _save(file: Path, bundle: TrustBundle) -> None:
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
