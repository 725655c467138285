"""Certificates: prepare -> lint -> sign, with everything from outside given as an argument.

What is linted is byte for byte what is signed: the draft is a certificate signed by a key that
everybody knows (and so nobody trusts), and the real signature is put over the same bytes.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from mesh.ca import parts
from mesh.ca.linter import Candidate, Role, Rule, lint
from mesh.ca.rules import ROOT_PATH_LENGTH, RULES
from mesh.ca.spiffe import MalformedID, parse_identity
from mesh.errors import CertificateRefused
from mesh.model.identity import Identity

ROOT_LIFETIME = timedelta(days=3650)
INTERMEDIATE_LIFETIME = timedelta(days=365)
MAX_LEAF_LIFETIME = timedelta(days=90)
MIN_LEAF_LIFETIME = timedelta(seconds=1)

# A verifier's clock may be behind: certificates begin a little before they are made. Signing
# certificates begin earlier, so that no leaf begins before its issuer.
BACKDATE = timedelta(minutes=1)
CA_BACKDATE = timedelta(hours=1)

_HASH = hashes.SHA256()
_SIGNATURE = ec.ECDSA(_HASH, deterministic_signing=True)
# SEQUENCE { OBJECT IDENTIFIER ecdsa-with-SHA256 } (RFC 5758 section 3.2): what the linter wants.
_ALGORITHM = bytes.fromhex("300a06082a8648ce3d040302")
_DRAFT_KEY = ec.derive_private_key(1, ec.SECP256R1())
_MAX_CSR_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Authority:
    """A signing certificate and its key."""

    certificate: x509.Certificate
    private_key: ec.EllipticCurvePrivateKey = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A certificate as it would be, signed by the draft key only, and the rules it shall keep."""

    builder: x509.CertificateBuilder
    candidate: Candidate
    rules: tuple[Rule, ...] = RULES


@dataclass(frozen=True, slots=True)
class Linted:
    """A draft that breaks no rule: the only thing that is ever signed. Made by `check`."""

    draft: Draft


# --- requests -------------------------------------------------------------------------------


def read_csr(csr_pem: bytes) -> ec.EllipticCurvePublicKey:
    """The public key of a certificate signing request; nothing else in it is used (RFC 2986).

    Raises:
        CertificateRefused: unreadable, its signature does not prove possession of the key, or
            the key is not EC P-256.
    """
    if len(csr_pem) > _MAX_CSR_BYTES:
        raise CertificateRefused(
            f"signing request of {len(csr_pem)} bytes is larger than {_MAX_CSR_BYTES}"
        )
    try:
        request = x509.load_pem_x509_csr(csr_pem)
        key = request.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateRefused("signing request is not a readable PKCS #10 in PEM") from error
    public_key = p256(key)
    try:
        request_is_signed = request.is_signature_valid
    except (UnsupportedAlgorithm, InvalidSignature):
        request_is_signed = False
    if not request_is_signed:
        raise CertificateRefused("signing request is not signed by its own key")
    return public_key


def p256(key: object) -> ec.EllipticCurvePublicKey:
    """The key itself, where it is EC P-256.

    Ed25519 is refused by name because Envoy accepts such a configuration and then fails every
    handshake; RSA because it signs 200 times slower.

    Raises:
        CertificateRefused: another algorithm or curve; the message names it.
    """
    match key:
        case ec.EllipticCurvePublicKey(curve=ec.SECP256R1()):
            return key
        case ec.EllipticCurvePublicKey():
            found = f"EC {key.curve.name}"
        case rsa.RSAPublicKey():
            found = f"RSA-{key.key_size}"
        case ed25519.Ed25519PublicKey():
            found = "Ed25519"
        case ed448.Ed448PublicKey():
            found = "Ed448"
        case _:
            found = type(key).__name__
    raise CertificateRefused(f"key is {found}, not EC P-256", "make the key on curve P-256")


def leaf_lifetime_is_allowed(lifetime: timedelta) -> bool:
    """Whether leaves may be asked for that long: never so long that an intermediate which is
    renewed at half of its life would have to cut them short.
    """
    return MIN_LEAF_LIFETIME <= lifetime <= MAX_LEAF_LIFETIME


def check_leaf_lifetime(lifetime: timedelta) -> None:
    """Refuse a lifetime that leaves may not be asked for.

    Raises:
        CertificateRefused: it is one.
    """
    if not leaf_lifetime_is_allowed(lifetime):
        raise CertificateRefused(
            f'lifetime "{lifetime}" is not between {MIN_LEAF_LIFETIME} and {MAX_LEAF_LIFETIME}'
        )


# --- prepare --------------------------------------------------------------------------------


def prepare_leaf(
    identity: Identity,
    public_key: ec.EllipticCurvePublicKey,
    issuer: x509.Certificate,
    *,
    serial: int,
    now: datetime,
    lifetime: timedelta,
) -> Draft:
    """An X.509-SVID for a service: one URI SAN (critical, the subject is empty: RFC 5280
    section 4.1.2.6), CA:FALSE, digitalSignature, serverAuth and clientAuth. It ends `lifetime`
    from `now`, or with its issuer if that is earlier.

    Raises:
        CertificateRefused: no identity of this mesh, or a lifetime out of bounds.
    """
    try:
        parse_identity(identity.uri)
    except MalformedID as error:
        raise CertificateRefused(str(error)) from error
    check_leaf_lifetime(lifetime)
    start, end = parts.within(issuer, now - BACKDATE, now + lifetime)
    builder = (
        parts.start(public_key, issuer.subject, serial=serial)
        .subject_name(x509.Name([]))
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(parts.key_usage(signing=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            ),
            critical=False,
        )
        .add_extension(parts.uri_name(identity.uri), critical=True)
        .add_extension(parts.authority_key(issuer), critical=False)
    )
    return draft_of(builder, role=Role.LEAF, issuer=issuer, name=identity.uri, now=now)


def prepare_root(
    trust_domain: str,
    public_key: ec.EllipticCurvePublicKey,
    *,
    serial: int,
    now: datetime,
    lifetime: timedelta = ROOT_LIFETIME,
) -> Draft:
    """A self-signed root of a trust domain, above one intermediate.

    Raises:
        CertificateRefused: the trust domain's name is not allowed.
    """
    name = parts.signer_name(Role.ROOT, serial)
    builder = parts.signer(
        trust_domain,
        parts.start(public_key, name, serial=serial)
        .subject_name(name)
        .not_valid_before(parts.whole_second(now - CA_BACKDATE))
        .not_valid_after(parts.whole_second(now + lifetime)),
        public_key,
        path_length=ROOT_PATH_LENGTH,
    )
    return draft_of(builder, role=Role.ROOT, issuer=None, name=f"spiffe://{trust_domain}", now=now)


def prepare_intermediate(
    trust_domain: str,
    public_key: ec.EllipticCurvePublicKey,
    issuer: x509.Certificate,
    *,
    serial: int,
    now: datetime,
    lifetime: timedelta = INTERMEDIATE_LIFETIME,
) -> Draft:
    """A signing certificate for leaves only (path length 0); it ends no later than its root.

    Raises:
        CertificateRefused: the trust domain's name is not allowed.
    """
    start, end = parts.within(issuer, now - CA_BACKDATE, now + lifetime)
    builder = parts.signer(
        trust_domain,
        parts.start(public_key, issuer.subject, serial=serial)
        .subject_name(parts.signer_name(Role.INTERMEDIATE, serial))
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(parts.authority_key(issuer), critical=False),
        public_key,
        path_length=0,
    )
    name = f"spiffe://{trust_domain}"
    return draft_of(builder, role=Role.INTERMEDIATE, issuer=issuer, name=name, now=now)


# --- lint and sign --------------------------------------------------------------------------


def check(draft: Draft) -> Linted:
    """Lint a draft.

    Raises:
        CertificateRefused: a rule is broken; the message has every finding with its section.
    """
    findings = lint(draft.candidate, draft.rules)
    if findings:
        raise CertificateRefused("; ".join(str(finding) for finding in findings))
    return Linted(draft)


def sign(linted: Linted, private_key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """Put the issuer's signature (deterministic ECDSA, RFC 6979) over the bytes that were linted.
    Whoever asked verifies it (`chain.read_svid`): a fault here makes no certificate.

    Raises:
        CertificateRefused: the key is not the issuer's.
    """
    candidate = linted.draft.candidate
    if private_key.public_key() != candidate.issuer.public_key():
        raise CertificateRefused("the signing key is not the issuer's")
    content = candidate.certificate.tbs_certificate_bytes
    signature = private_key.sign(content, _SIGNATURE)
    return x509.load_der_x509_certificate(_signed(content, signature))


def issue_leaf(
    identity: Identity,
    csr_pem: bytes,
    authority: Authority,
    *,
    serial: int,
    now: datetime,
    lifetime: timedelta,
) -> x509.Certificate:
    """Read the request, prepare, lint, sign.

    Raises:
        CertificateRefused: at any of these steps.
    """
    draft = prepare_leaf(
        identity,
        read_csr(csr_pem),
        authority.certificate,
        serial=serial,
        now=now,
        lifetime=lifetime,
    )
    return sign(check(draft), authority.private_key)


def draft_of(
    builder: x509.CertificateBuilder,
    *,
    role: Role,
    issuer: x509.Certificate | None,
    name: str,
    now: datetime,
    rules: tuple[Rule, ...] = RULES,
) -> Draft:
    """The draft of what `builder` would make; `issuer` None is "itself", a root.

    Raises:
        CertificateRefused: X.509 forbids something in it.
    """
    try:
        certificate = builder.sign(_DRAFT_KEY, _HASH, ecdsa_deterministic=True)
    except ValueError as error:
        raise CertificateRefused(f"certificate cannot be made: {error}") from error
    candidate = Candidate(
        certificate=certificate,
        issuer=certificate if issuer is None else issuer,
        role=role,
        name=name,
        now=now,
    )
    return Draft(builder=builder, candidate=candidate, rules=rules)


def _signed(content: bytes, signature: bytes) -> bytes:
    """The Certificate of RFC 5280 section 4.1: SEQUENCE { content, algorithm, BIT STRING }."""
    return _der(0x30, content + _ALGORITHM + _der(0x03, b"\0" + signature))


def _der(tag: int, value: bytes) -> bytes:
    """A value with its tag and its length (X.690 section 8.1.3)."""
    size = len(value)
    if size < 0x80:  # noqa: PLR2004
        return bytes((tag, size)) + value
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(length))) + length + value
