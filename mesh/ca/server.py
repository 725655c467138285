"""The certificate of the authority's own server: host names instead of a SPIFFE ID.

It is no SVID and can play no service: it has no URI name and may not be used by a client. A
service's SVID can play no authority in turn: it has no host name.
"""

import ipaddress
import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from mesh.ca import issuance, parts, rules
from mesh.ca.issuance import Authority, Draft
from mesh.ca.linter import Candidate, Role, Rule
from mesh.errors import CertificateRefused

# Renewed at half of it; short, because nobody revokes it.
SERVER_LIFETIME = timedelta(hours=24)
# A joining host's clock may be well off: that shall not be what it cannot say.
SERVER_BACKDATE = timedelta(minutes=5)
MAX_NAMES = 32

# RFC 1123 section 2.1 host names, in lower case.
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*", re.ASCII)


def server_name(text: str) -> str:
    """A host name in lower case, or an IP address in its canonical form.

    Raises:
        CertificateRefused: it is neither.
    """
    bare = text.strip().removeprefix("[").removesuffix("]")
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        pass
    name = bare.lower()
    # "1.2.3" is no address and must be no name either: clients read it as an address.
    if not _HOST.fullmatch(name) or name.rpartition(".")[2].isdigit():
        raise CertificateRefused(
            f'"{text}" is no host name and no IP address', "write ca.example.org or 192.0.2.7"
        )
    return name


def prepare_server(
    names: Sequence[str],
    csr_pem: bytes,
    issuer: x509.Certificate,
    *,
    serial: int,
    now: datetime,
    lifetime: timedelta = SERVER_LIFETIME,
) -> Draft:
    """A certificate for a server that is reached by these names: DNS and IP SANs (critical, the
    subject is empty), CA:FALSE, digitalSignature, serverAuth alone.

    Raises:
        CertificateRefused: a name is none, there are none or too many, or the request is bad.
    """
    wanted = tuple(dict.fromkeys(server_name(name) for name in names))
    if not 1 <= len(wanted) <= MAX_NAMES:
        raise CertificateRefused(f"{len(wanted)} names for a server, not 1 to {MAX_NAMES}")
    start, end = parts.within(issuer, now - SERVER_BACKDATE, now + lifetime)
    builder = (
        parts.start(issuance.read_csr(csr_pem), issuer.subject, serial=serial)
        .subject_name(x509.Name([]))
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(parts.key_usage(signing=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(map(_general_name, wanted)), critical=True)
        .add_extension(parts.authority_key(issuer), critical=False)
    )
    return issuance.draft_of(
        builder, role=Role.SERVER, issuer=issuer, name=",".join(wanted), now=now, rules=RULES
    )


def issue_server(
    names: Sequence[str],
    csr_pem: bytes,
    authority: Authority,
    *,
    serial: int,
    now: datetime,
) -> x509.Certificate:
    """Read the request, prepare, lint, sign.

    Raises:
        CertificateRefused: at any of these steps.
    """
    draft = prepare_server(names, csr_pem, authority.certificate, serial=serial, now=now)
    return issuance.sign(issuance.check(draft), authority.private_key)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


# --- rules ----------------------------------------------------------------------------------


def _names(candidate: Candidate) -> str | None:
    """Exactly the expected names, and no other kind: a URI would make it an SVID."""
    names = candidate.extension(x509.SubjectAlternativeName)
    if names is None:
        return "there is no subject alternative name"
    for name in names.value:
        if not isinstance(name, x509.DNSName | x509.IPAddress):
            return f"a {type(name).__name__} among a server's names"
    found = ",".join(str(name.value) for name in names.value)
    return None if found == candidate.name else f'names are "{found}", not "{candidate.name}"'


def _extended_key_usage(candidate: Candidate) -> str | None:
    usage = candidate.extension(x509.ExtendedKeyUsage)
    if usage is not None and list(usage.value) == [ExtendedKeyUsageOID.SERVER_AUTH]:
        return None
    return "extended key usage of a server is not exactly serverAuth"


_SERVER_ROLE = (Role.SERVER,)
RULES: tuple[Rule, ...] = (
    *rules.RULES,
    Rule("server-names", "RFC 9525 section 6, mesh profile", _SERVER_ROLE, _names),
    Rule("server-usage", "RFC 5280 section 4.2.1.12", _SERVER_ROLE, _extended_key_usage),
)
