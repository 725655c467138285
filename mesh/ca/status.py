"""A certificate authority as people see it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from cryptography import x509

from mesh.ca.chain import fingerprint
from mesh.ca.linter import Role
from mesh.ca.rotation import State


class CertificateUse(StrEnum):
    """What a signing certificate is for now."""

    IN_USE = "in-use"
    PREPARED = "prepared"
    RETIRING = "retiring"


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateStatus:
    """A signing certificate. `until` is when a prepared root is activated, a retiring one
    leaves the bundle. `fingerprint` is `sha256:` and hexadecimal.
    """

    role: Role
    use: CertificateUse
    fingerprint: str
    not_before: datetime
    not_after: datetime
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class AuthorityStatus:
    """The certificate authority as people see it: roots first, the one in use first."""

    trust_domain: str
    certificates: tuple[CertificateStatus, ...]


def status_of(state: State) -> AuthorityStatus:
    """An authority's state without its keys."""
    in_use = CertificateUse.IN_USE
    found = [_certificate(state.root.certificate, Role.ROOT, in_use)]
    if state.prepared:
        certificate = state.prepared.authority.certificate
        until = state.prepared.activate_at
        found.append(_certificate(certificate, Role.ROOT, CertificateUse.PREPARED, until))
    for root in state.retiring:
        use, until = CertificateUse.RETIRING, root.retire_at
        found.append(_certificate(root.certificate, Role.ROOT, use, until))
    found.append(_certificate(state.intermediate.certificate, Role.INTERMEDIATE, in_use))
    return AuthorityStatus(state.trust_domain, tuple(found))


def _certificate(
    certificate: x509.Certificate,
    role: Role,
    use: CertificateUse,
    until: datetime | None = None,
) -> CertificateStatus:
    return CertificateStatus(
        role=role,
        use=use,
        fingerprint=fingerprint(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        until=until,
    )
