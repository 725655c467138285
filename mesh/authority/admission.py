"""Who gets a certificate: the one rule that the token or the current certificate must prove it.

Nothing that a request says of itself decides anything: its names are only compared, so that the
answer to a mistake can say what is wrong.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from mesh.authority.ports import Bundles, Signer
from mesh.authority.registry import Registry
from mesh.ca import issuance
from mesh.ca.chain import read_certificates
from mesh.ca.spiffe import MalformedID, parse_identity
from mesh.ca.tokens import JoinToken, Refusal
from mesh.model.identity import Identity, ServiceName, TrustBundle
from mesh.ports import Clock

# 128 bits of a digest tell public keys apart and keep a token's record small.
_KEY_DIGITS = 32

_log = structlog.get_logger(__name__)


class Refused(Exception):
    """An answer that is no certificate: an HTTP status, a stable code, words and a remedy."""

    def __init__(self, status: int, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request: by which peer, for whom (as it believes), with which PKCS #10, for how long."""

    peer: str
    csr_pem: bytes
    lifetime: timedelta
    expected: Identity | None = None


@dataclass(frozen=True, slots=True)
class Issued:
    """A chain (PEM, leaf first, no root) and what to verify it and others with."""

    chain_pem: bytes
    bundle: TrustBundle


class Admission:
    """Checks proofs, signs, and writes down each decision."""

    def __init__(
        self,
        signer: Signer,
        bundle: Bundles,
        registry: Registry,
        clock: Clock,
        longest_leaf: timedelta,
    ) -> None:
        self._signer = signer
        self._bundle = bundle
        self._registry = registry
        self._clock = clock
        self._longest_leaf = longest_leaf

    async def join(self, token: str, ask: Ask) -> Issued:
        """A first certificate, for the service that the token is for.

        Raises:
            Refused: the token does not admit this service, or the request is not signed.
            MeshError: the store or the signing core fails; a request may be sent again.
        """
        bundle = await self._bundle()
        expected = ask.expected
        if expected is None:
            raise Refused(400, "bad-request", "a join says for which service it is")
        if expected.trust_domain != bundle.trust_domain:
            raise _other_domain(expected, bundle)
        # Before the token is spent: a request that cannot be signed costs no use.
        issuance.check_leaf_lifetime(ask.lifetime)
        key = issuance.read_csr(ask.csr_pem)
        digest = hashlib.sha256(
            key.public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        ).hexdigest()[:_KEY_DIGITS]
        record, refusal = await self._registry.spend(token, expected.service, digest)
        if record is None or refusal is not None:
            raise _refused(refusal or Refusal.UNKNOWN, record, expected.service)
        identity = Identity(bundle.trust_domain, record.service)
        return await self._sign("join", identity, ask, bundle, token=record.id)

    async def renew(self, certificate: x509.Certificate | None, ask: Ask) -> Issued:
        """A certificate for exactly the identity of the one that the peer showed and proved in
        its handshake.

        Raises:
            Refused: there is none, or it is of no service of this mesh.
            MeshError: as `join`.
        """
        if certificate is None:
            raise Refused(
                401,
                "certificate-required",
                "a renewal needs the current certificate in the TLS handshake",
                "join with a token instead",
            )
        now = self._clock.now()
        if certificate.not_valid_after_utc <= now:  # the connection outlived it
            raise Refused(
                403,
                "certificate-expired",
                f"the certificate expired at {_instant(certificate.not_valid_after_utc)}",
                "join with a new token; if it should be valid, compare the clocks of both hosts",
            )
        bundle = await self._bundle()
        identity = _identity(certificate)
        if identity is None or identity.trust_domain != bundle.trust_domain:
            raise Refused(403, "not-a-service", "the certificate is of no service of this mesh")
        return await self._sign("renew", identity, ask, bundle)

    async def _sign(
        self, kind: str, identity: Identity, ask: Ask, bundle: TrustBundle, **proof: str
    ) -> Issued:
        lifetime = min(ask.lifetime, self._longest_leaf)
        chain_pem = await self._signer.issue(identity, ask.csr_pem, lifetime)
        leaf = read_certificates(chain_pem)[0]
        _log.info(
            "issued a certificate",
            kind=kind,
            identity=identity.uri,
            peer=ask.peer,
            serial=f"{leaf.serial_number:x}",
            not_after=_instant(leaf.not_valid_after_utc),
            **proof,
        )
        return Issued(chain_pem, bundle)


def _identity(certificate: x509.Certificate) -> Identity | None:
    """The one service that a certificate names, None if it names none or more."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        uris = [
            name.value for name in names.value if isinstance(name, x509.UniformResourceIdentifier)
        ]
        return parse_identity(uris[0]) if len(uris) == len(list(names.value)) == 1 else None
    except (x509.ExtensionNotFound, MalformedID, ValueError):
        return None


def _refused(refusal: Refusal, record: JoinToken | None, service: ServiceName) -> Refused:
    """The answer to a token that admits nobody; who sends it holds it, and may know why."""
    make = f"mesh token create --service {service.name} --namespace {service.namespace}"
    hint = f"make another with `{make}` and write it to the file that MESH_TOKEN_FILE names"
    if record is None or refusal is Refusal.UNKNOWN:
        message = "the join token is not known here: it was revoked, or is of another mesh"
        return Refused(401, refusal.value, message, hint)
    message = f'the join token {record.id} is for "{record.service}", not for "{service}"'
    if refusal is Refusal.EXPIRED:
        message = f"the join token {record.id} expired at {_instant(record.expires)}"
    elif refusal is Refusal.USED:
        message = f"the join token {record.id} has no use left"
        hint += "; --uses N is for N hosts"
    return Refused(403, refusal.value, message, hint)


def _other_domain(expected: Identity, bundle: TrustBundle) -> Refused:
    return Refused(
        403,
        "other-trust-domain",
        f'this authority signs for trust domain "{bundle.trust_domain}", '
        f'the mesh of the asking host is "{expected.trust_domain}"',
        "its MESH_CA and MESH_STORE belong to different meshes, or the Mesh document names "
        "another trustDomain than the authority was made with",
    )


def _instant(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
