"""Whether a certificate is what the CA means to sign: rules of X.509-SVID and RFC 5280.

Every certificate is linted before it is signed (`issuance`), and a chain before it is used
(`chain`). A rule looks at one certificate and its issuer's and names the section it enforces.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import TypeVar, cast

from cryptography import x509

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


class Role(StrEnum):
    """A certificate's place in the chain."""

    ROOT = "root"
    INTERMEDIATE = "intermediate"
    LEAF = "leaf"
    SERVER = "server"


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One broken rule."""

    rule: str
    section: str
    message: str

    def __str__(self) -> str:
        return f"{self.message} [{self.rule}, {self.section}]"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What is linted, beside what: a root is its own `issuer`; `name` is the SPIFFE ID that the
    certificate shall carry, a server's names joined by commas.
    """

    certificate: x509.Certificate
    issuer: x509.Certificate
    role: Role
    name: str
    now: datetime

    # Every rule asks for the same few: each certificate is taken apart once.
    @cached_property
    def _extensions(self) -> Mapping[type, object]:
        return {type(found.value): found for found in self.certificate.extensions}

    def extension(self, kind: type[_Extension]) -> x509.Extension[_Extension] | None:
        """The certificate's extension of a type, if it has one."""
        return cast("x509.Extension[_Extension] | None", self._extensions.get(kind))

    @cached_property
    def uris(self) -> tuple[str, ...]:
        """The URIs among the certificate's names."""
        names = self.extension(x509.SubjectAlternativeName)
        if names is None:
            return ()
        return tuple(names.value.get_values_for_type(x509.UniformResourceIdentifier))


@dataclass(frozen=True, slots=True)
class Rule:
    """`broken` gives what is wrong, or None."""

    name: str
    section: str
    roles: tuple[Role, ...]
    broken: Callable[[Candidate], str | None]


def lint(candidate: Candidate, rules: tuple[Rule, ...]) -> tuple[Finding, ...]:
    """Every one of `rules` that the certificate breaks; empty: it may be signed.
    Signatures are not looked at: see `chain.verify`.
    """
    try:
        _ = candidate.certificate.extensions
    except (ValueError, x509.DuplicateExtension) as error:
        return (Finding("readable-extensions", "RFC 5280 section 4.2", str(error)),)
    return tuple(_findings(candidate, rules))


def _findings(candidate: Candidate, rules: tuple[Rule, ...]) -> Iterator[Finding]:
    for rule in rules:
        if candidate.role not in rule.roles:
            continue
        message = rule.broken(candidate)
        if message is not None:
            yield Finding(rule.name, rule.section, message)
