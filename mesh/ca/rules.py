"""The rules of this mesh's certificates: X.509-SVID's and RFC 5280's, each with its section.

"mesh profile" marks where this mesh is stricter than the standards.
"""

from collections.abc import Iterator

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, SignatureAlgorithmOID

from mesh.ca.linter import Candidate, Role, Rule
from mesh.ca.spiffe import MalformedID, parse_id, parse_identity

_MAX_SERIAL_BITS = 159  # 20 octets as a positive INTEGER
ROOT_PATH_LENGTH = 1
_EXTENSIONS = {
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.KEY_USAGE,
    ExtensionOID.EXTENDED_KEY_USAGE,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    ExtensionOID.SUBJECT_KEY_IDENTIFIER,
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
}

_EVERY_ROLE = tuple(Role)
_CA_ROLES = (Role.ROOT, Role.INTERMEDIATE)
_LEAF_ROLE = (Role.LEAF,)
# The authority's own server is no SVID: `mesh.ca.server` has the rules for its names.
_SVID_ROLES = (*_CA_ROLES, Role.LEAF)
_END_ROLES = (Role.LEAF, Role.SERVER)


# --- every certificate ----------------------------------------------------------------------


def _version(candidate: Candidate) -> str | None:
    version = candidate.certificate.version
    return None if version is x509.Version.v3 else f"version is {version.name}, not v3"


def _serial(candidate: Candidate) -> str | None:
    serial = candidate.certificate.serial_number
    if serial > 0 and serial.bit_length() <= _MAX_SERIAL_BITS:
        return None
    return "serial number is not positive or longer than 20 octets"


def _signature_algorithm(candidate: Candidate) -> str | None:
    found = candidate.certificate.signature_algorithm_oid
    if found == SignatureAlgorithmOID.ECDSA_WITH_SHA256:
        return None
    return f"signature algorithm is {found.dotted_string}, not ecdsa-with-SHA256"


def _public_key(candidate: Candidate) -> str | None:
    key = candidate.certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return None
    return "public key is not EC P-256"


def _issuer_name(candidate: Candidate) -> str | None:
    found, expected = candidate.certificate.issuer, candidate.issuer.subject
    if not found.rdns:
        return "issuer is empty"
    if found != expected:
        return f'issuer "{found.rfc4514_string()}" is not the signer "{expected.rfc4514_string()}"'
    return None


def _authority_key(candidate: Candidate) -> str | None:
    found = candidate.extension(x509.AuthorityKeyIdentifier)
    if found is None:
        return None if candidate.role is Role.ROOT else "authority key identifier is missing"
    try:
        own = candidate.issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        own = None
    if own is None or found.value.key_identifier != own.value.digest:
        return "authority key identifier is not the signer's subject key identifier"
    return None


def _validity(candidate: Candidate) -> str | None:
    start, end = (
        candidate.certificate.not_valid_before_utc,
        candidate.certificate.not_valid_after_utc,
    )
    if start >= end:
        return f"validity ends ({end.isoformat()}) before it begins ({start.isoformat()})"
    if candidate.now < start:
        return f"not valid before {start.isoformat()}"
    if candidate.now > end:
        return f"expired at {end.isoformat()}"
    return None


def _within_issuer(candidate: Candidate) -> str | None:
    end, limit = candidate.certificate.not_valid_after_utc, candidate.issuer.not_valid_after_utc
    if end > limit:
        return f"ends {end.isoformat()}, after its issuer ({limit.isoformat()})"
    if candidate.certificate.not_valid_before_utc < candidate.issuer.not_valid_before_utc:
        return "begins before its issuer"
    return None


def _known_extensions(candidate: Candidate) -> str | None:
    for extension in candidate.certificate.extensions:
        if extension.oid not in _EXTENSIONS:
            return f"extension {extension.oid.dotted_string} is not in the profile"
    return None


def _key_usage_critical(candidate: Candidate) -> str | None:
    usage = candidate.extension(x509.KeyUsage)
    if usage is None:
        return "key usage is missing"
    return None if usage.critical else "key usage is not critical"


def _one_uri(candidate: Candidate) -> str | None:
    names = candidate.extension(x509.SubjectAlternativeName)
    if names is None:
        return "there is no subject alternative name"
    uris = candidate.uris
    if len(uris) == 1:
        return None
    return f"{len(uris)} URI names, not one: {', '.join(uris)}" if uris else "there is no URI name"


def _only_uris(candidate: Candidate) -> str | None:
    names = candidate.extension(x509.SubjectAlternativeName)
    for name in names.value if names else ():
        if not isinstance(name, x509.UniformResourceIdentifier):
            return f"a {type(name).__name__} beside the SPIFFE ID"
    return None


def _spiffe_id(candidate: Candidate) -> str | None:
    for uri in candidate.uris:
        try:
            parse_id(uri)
        except MalformedID as error:
            return str(error)
    return None


def _expected_name(candidate: Candidate) -> str | None:
    found = candidate.uris
    if found == (candidate.name,):
        return None
    return f'name is "{", ".join(found)}", not "{candidate.name}"'


# --- leaves ---------------------------------------------------------------------------------


def _leaf_constraints(candidate: Candidate) -> str | None:
    constraints = candidate.extension(x509.BasicConstraints)
    if constraints is None:
        return "basic constraints are missing"
    if constraints.value.ca:
        return "a leaf with CA:TRUE"
    return None if constraints.critical else "basic constraints are not critical"


def _leaf_key_usage(candidate: Candidate) -> str | None:
    usage = candidate.extension(x509.KeyUsage)
    if usage is None:
        return None  # `key-usage-critical` says so
    wrong = sorted(name for name in _usages(usage.value) if name != "digital_signature")
    if wrong:
        return f"key usage of a leaf has {', '.join(wrong)}"
    return None if usage.value.digital_signature else "key usage lacks digitalSignature"


def _usages(usage: x509.KeyUsage) -> Iterator[str]:
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
    )
    return (name for name in names if getattr(usage, name))


def _extended_key_usage(candidate: Candidate) -> str | None:
    usage = candidate.extension(x509.ExtendedKeyUsage)
    wanted = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    if usage is not None and set(usage.value) == wanted:
        return None
    return "extended key usage is not exactly serverAuth and clientAuth"


def _leaf_path(candidate: Candidate) -> str | None:
    for uri in candidate.uris:
        try:
            parse_identity(uri)
        except MalformedID as error:
            return str(error)
    return None


def _critical_name(candidate: Candidate) -> str | None:
    names = candidate.extension(x509.SubjectAlternativeName)
    if names is None or names.critical:
        return None
    return "subject is empty and the subject alternative name is not critical"


def _empty_subject(candidate: Candidate) -> str | None:
    found = candidate.certificate.subject
    return f'subject "{found.rfc4514_string()}" is not empty' if found.rdns else None


# --- signing certificates -------------------------------------------------------------------


def _ca_constraints(candidate: Candidate) -> str | None:
    constraints = candidate.extension(x509.BasicConstraints)
    if constraints is None or not constraints.value.ca:
        return "a signing certificate without CA:TRUE"
    if not constraints.critical:
        return "basic constraints are not critical"
    expected = ROOT_PATH_LENGTH if candidate.role is Role.ROOT else 0
    if constraints.value.path_length != expected:
        return f"path length is {constraints.value.path_length}, not {expected}"
    return None


def _ca_key_usage(candidate: Candidate) -> str | None:
    usage = candidate.extension(x509.KeyUsage)
    if usage is None:
        return None  # `key-usage-critical` says so
    wrong = sorted(set(_usages(usage.value)) - {"key_cert_sign", "crl_sign"})
    if wrong:
        return f"key usage of a signing certificate has {', '.join(wrong)}"
    return None if usage.value.key_cert_sign else "key usage lacks keyCertSign"


def _ca_name(candidate: Candidate) -> str | None:
    for uri in candidate.uris:
        try:
            path = parse_id(uri)[1]
        except MalformedID:
            return None  # `spiffe-id` says so
        if path:
            return f'SPIFFE ID "{uri}" of a signing certificate has a path'
    return None


def _ca_subject(candidate: Candidate) -> str | None:
    return (
        None if candidate.certificate.subject.rdns else "subject of a signing certificate is empty"
    )


def _subject_key(candidate: Candidate) -> str | None:
    found = candidate.extension(x509.SubjectKeyIdentifier)
    expected = x509.SubjectKeyIdentifier.from_public_key(candidate.certificate.public_key())
    if found is None or found.value != expected:
        return "subject key identifier is missing or not the key's"
    return None


RULES: tuple[Rule, ...] = (
    Rule("version-3", "RFC 5280 section 4.1.2.1", _EVERY_ROLE, _version),
    Rule("serial-number", "RFC 5280 section 4.1.2.2", _EVERY_ROLE, _serial),
    Rule("signature-algorithm", "RFC 5758 section 3.2", _EVERY_ROLE, _signature_algorithm),
    Rule("public-key", "RFC 5480 section 2.1.1.1, mesh profile", _EVERY_ROLE, _public_key),
    Rule("issuer-name", "RFC 5280 section 4.1.2.4", _EVERY_ROLE, _issuer_name),
    Rule("authority-key", "RFC 5280 section 4.2.1.1", _EVERY_ROLE, _authority_key),
    Rule("validity", "RFC 5280 section 4.1.2.5", _EVERY_ROLE, _validity),
    Rule("within-issuer", "RFC 5280 section 6.1.3", _EVERY_ROLE, _within_issuer),
    Rule("known-extensions", "RFC 5280 section 4.2", _EVERY_ROLE, _known_extensions),
    Rule("key-usage-critical", "X509-SVID section 4.3", _EVERY_ROLE, _key_usage_critical),
    Rule("one-uri", "X509-SVID section 2", _SVID_ROLES, _one_uri),
    Rule("only-uris", "X509-SVID section 2, mesh profile", _SVID_ROLES, _only_uris),
    Rule("spiffe-id", "SPIFFE-ID section 2", _SVID_ROLES, _spiffe_id),
    Rule("expected-name", "X509-SVID section 5.2", _SVID_ROLES, _expected_name),
    Rule("leaf-constraints", "X509-SVID section 4.1", _END_ROLES, _leaf_constraints),
    Rule("leaf-key-usage", "X509-SVID section 4.3", _END_ROLES, _leaf_key_usage),
    Rule("leaf-extended-key-usage", "X509-SVID section 4.4", _LEAF_ROLE, _extended_key_usage),
    Rule("leaf-path", "X509-SVID section 3.1", _LEAF_ROLE, _leaf_path),
    Rule("critical-name", "RFC 5280 section 4.1.2.6", _END_ROLES, _critical_name),
    Rule("empty-subject", "X509-SVID section 3.1, mesh profile", _END_ROLES, _empty_subject),
    Rule("ca-constraints", "RFC 5280 section 4.2.1.9", _CA_ROLES, _ca_constraints),
    Rule("ca-key-usage", "X509-SVID section 4.3", _CA_ROLES, _ca_key_usage),
    Rule("ca-name", "X509-SVID section 3.2", _CA_ROLES, _ca_name),
    Rule("ca-subject", "RFC 5280 section 4.1.2.6", _CA_ROLES, _ca_subject),
    Rule("subject-key", "RFC 5280 section 4.2.1.2", _CA_ROLES, _subject_key),
)
