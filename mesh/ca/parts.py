"""What certificates of every profile are put together from."""

from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mesh.ca.linter import Role
from mesh.ca.spiffe import MalformedID, parse_trust_domain
from mesh.errors import CertificateRefused


def start(
    public_key: ec.EllipticCurvePublicKey, issuer: x509.Name, *, serial: int
) -> x509.CertificateBuilder:
    """A builder with a key, an issuer and a serial number.

    Raises:
        CertificateRefused: X.509 forbids one of them.
    """
    try:
        return (
            x509.CertificateBuilder()
            .public_key(public_key)
            .issuer_name(issuer)
            .serial_number(serial)
        )
    except ValueError as error:
        raise CertificateRefused(f"certificate cannot be made: {error}") from error


def signer(
    trust_domain: str,
    builder: x509.CertificateBuilder,
    public_key: ec.EllipticCurvePublicKey,
    *,
    path_length: int,
) -> x509.CertificateBuilder:
    """The extensions of a signing certificate of a trust domain.

    Raises:
        CertificateRefused: the trust domain's name is not allowed.
    """
    try:
        parse_trust_domain(trust_domain)
    except MalformedID as error:
        raise CertificateRefused(str(error)) from error
    return (
        builder.add_extension(
            x509.BasicConstraints(ca=True, path_length=path_length), critical=True
        )
        .add_extension(key_usage(signing=True), critical=True)
        .add_extension(uri_name(f"spiffe://{trust_domain}"), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def signer_name(role: Role, serial: int) -> x509.Name:
    """A name of its own for each signing certificate: verifiers find issuers by name."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "mesh"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"mesh {role} {serial:040x}"),
        ]
    )


def uri_name(uri: str) -> x509.SubjectAlternativeName:
    """A SPIFFE ID as the one name of a certificate."""
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])


def authority_key(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """What points at the issuer's key."""
    own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own.value)


def key_usage(*, signing: bool) -> x509.KeyUsage:
    """For a signing certificate keyCertSign and cRLSign, else digitalSignature."""
    return x509.KeyUsage(
        digital_signature=not signing,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signing,
        crl_sign=signing,
        encipher_only=False,
        decipher_only=False,
    )


def within(issuer: x509.Certificate, start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """The part of a period in which the issuer is valid too.

    Raises:
        CertificateRefused: there is none.
    """
    start = max(whole_second(start), issuer.not_valid_before_utc)
    end = min(whole_second(end), issuer.not_valid_after_utc)
    if start >= end:
        raise CertificateRefused(
            f"the issuer is not valid then: it ends {issuer.not_valid_after_utc.isoformat()}"
        )
    return start, end


def whole_second(moment: datetime) -> datetime:
    """X.509 times have whole seconds (RFC 5280 section 4.1.2.5)."""
    return moment.replace(microsecond=0)
