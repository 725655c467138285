"""Certificate chains as their users see them: made into an SVID, verified against a bundle."""

from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mesh.ca.issuance import p256
from mesh.ca.linter import Candidate, Role, lint
from mesh.ca.rules import RULES
from mesh.errors import CertificateRefused
from mesh.model.identity import SVID, Identity, TrustBundle


def read_certificates(pem: bytes) -> tuple[x509.Certificate, ...]:
    """Every certificate of a PEM text, at least one.

    Raises:
        CertificateRefused: the text is not that.
    """
    try:
        return tuple(x509.load_pem_x509_certificates(pem))
    except ValueError as error:
        raise CertificateRefused("not a list of certificates in PEM") from error


def read_private_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """An unencrypted EC P-256 key.

    Raises:
        CertificateRefused: the text is not that. The message never holds any of it.
    """
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):
        # The library's message is left out: it may quote what it could not read.
        raise CertificateRefused("not a readable private key in PEM") from None
    p256(key.public_key())
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateRefused("not an EC private key")
    return key


def to_pem(*certificates: x509.Certificate) -> bytes:
    """Certificates as PEM, in the given order."""
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)


def key_to_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as unencrypted PKCS #8 in PEM: keep it in memory or in a 0600 file."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def fingerprint(certificate: x509.Certificate) -> str:
    """`sha256:` and the digest of the DER form in hexadecimal."""
    return "sha256:" + certificate.fingerprint(hashes.SHA256()).hex()


def read_svid(
    identity: Identity, chain_pem: bytes, private_key_pem: bytes, bundle: TrustBundle, now: datetime
) -> SVID:
    """The SVID of a chain that an issuer answered, checked before it is served to anybody.

    Raises:
        CertificateRefused: the chain is not `identity`'s, not of this key, breaks the profile
            or does not lead to a root of `bundle` at `now`.
    """
    chain = read_certificates(chain_pem)
    leaf = chain[0]
    if read_private_key(private_key_pem).public_key() != leaf.public_key():
        raise CertificateRefused("certificate is for another key")
    verify(identity, chain, bundle, now)
    return SVID(
        identity=identity,
        chain_pem=chain_pem,
        private_key_pem=private_key_pem,
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
    )


def verify(
    identity: Identity, chain: Sequence[x509.Certificate], bundle: TrustBundle, now: datetime
) -> x509.Certificate:
    """Validate leaf and intermediates against the bundle (X509-SVID section 5, RFC 5280
    section 6.1); the root that it leads to.

    Raises:
        CertificateRefused: the first thing that is wrong.
    """
    if identity.trust_domain != bundle.trust_domain:
        raise CertificateRefused(
            f'identity is of trust domain "{identity.trust_domain}", '
            f'the bundle of "{bundle.trust_domain}"'
        )
    if len(chain) != 2:  # noqa: PLR2004 - a leaf and its intermediate, by the profile
        raise CertificateRefused(f"chain has {len(chain)} certificates, not a leaf and its issuer")
    leaf, intermediate = chain
    root = _root_of(intermediate, read_certificates(bundle.roots_pem))
    name = f"spiffe://{bundle.trust_domain}"
    _require(Candidate(certificate=root, issuer=root, role=Role.ROOT, name=name, now=now))
    _require(
        Candidate(certificate=intermediate, issuer=root, role=Role.INTERMEDIATE, name=name, now=now)
    )
    _require(
        Candidate(certificate=leaf, issuer=intermediate, role=Role.LEAF, name=identity.uri, now=now)
    )
    return root


def _root_of(intermediate: x509.Certificate, roots: Sequence[x509.Certificate]) -> x509.Certificate:
    for root in roots:
        if root.subject == intermediate.issuer:
            return root
    raise CertificateRefused("chain leads to no root of the trust bundle")


def _require(candidate: Candidate) -> None:
    try:
        candidate.certificate.verify_directly_issued_by(candidate.issuer)
    except (InvalidSignature, ValueError, TypeError) as error:
        raise CertificateRefused(f"{candidate.role} is not signed by its issuer") from error
    findings = lint(candidate, RULES)
    if findings:
        raise CertificateRefused(f"{candidate.role}: {findings[0]}")
