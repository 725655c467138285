from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from mesh.ca.linter import Candidate, Role, lint
from mesh.ca.rules import RULES
from tests.support.certificates import (
    BAD_LEAVES,
    NOW,
    OFF_PROFILE_LEAVES,
    TRUST_DOMAIN,
    WEB,
    Peers,
    good_leaf,
    key_usage,
    p256_key,
)

# The linter looks at a certificate before it is signed: who signed it is `chain.verify`'s.
SIGNATURE_ONLY = {"by-a-stranger-in-our-name"}
PEERS = Peers.made()
NAME = f"spiffe://{TRUST_DOMAIN}"


def leaf_rules(certificate):
    return {
        finding.rule
        for finding in lint(
            Candidate(
                certificate=certificate,
                issuer=PEERS.mesh.intermediate.certificate,
                role=Role.LEAF,
                name=WEB.uri,
                now=NOW,
            ),
            RULES,
        )
    }


def test_a_leaf_of_the_profile_breaks_no_rule():
    assert leaf_rules(good_leaf(PEERS).certificate) == set()


@pytest.mark.parametrize(
    "kind", sorted({**BAD_LEAVES, **OFF_PROFILE_LEAVES}.keys() - SIGNATURE_ONLY)
)
def test_every_kind_of_bad_leaf_is_found(kind):
    make = {**BAD_LEAVES, **OFF_PROFILE_LEAVES}[kind]
    assert leaf_rules(make(PEERS).certificate)


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        ("two-own-ids", "one-uri"),
        ("dns-name-beside", "only-uris"),
        ("ca-true", "leaf-constraints"),
        ("no-constraints", "leaf-constraints"),
        ("cert-sign", "leaf-key-usage"),
        ("no-digital-signature", "leaf-key-usage"),
        ("key-usage-not-critical", "key-usage-critical"),
        ("server-only", "leaf-extended-key-usage"),
        ("trust-domain-only", "leaf-path"),
        ("percent-encoded", "spiffe-id"),
        ("other-service", "expected-name"),
        ("names-not-critical", "critical-name"),
        ("subject", "empty-subject"),
        ("ed25519-key", "public-key"),
        ("rsa-key", "public-key"),
        ("p384-key", "public-key"),
        ("sha384-signature", "signature-algorithm"),
        ("by-a-stranger", "issuer-name"),
        ("no-authority-key", "authority-key"),
        ("expired", "validity"),
        ("outlives-issuer", "within-issuer"),
        ("unknown-critical-extension", "known-extensions"),
    ],
)
def test_a_bad_leaf_breaks_the_rule_that_it_is_named_for(kind, rule):
    make = {**BAD_LEAVES, **OFF_PROFILE_LEAVES}[kind]
    assert rule in leaf_rules(make(PEERS).certificate)


def ca_certificate(**changes):
    """An intermediate of the mesh's root, right but for `changes`."""
    key = p256_key()
    root = PEERS.mesh.root
    parts = {
        "constraints": (x509.BasicConstraints(ca=True, path_length=0), True),
        "usage": (key_usage("key_cert_sign", "crl_sign"), True),
        "names": (x509.SubjectAlternativeName([x509.UniformResourceIdentifier(NAME)]), False),
        "subject_key": (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        "authority_key": (
            x509.AuthorityKeyIdentifier.from_issuer_public_key(root.private_key.public_key()),
            False,
        ),
    }
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "intermediate")])
    builder = (
        x509.CertificateBuilder()
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .issuer_name(root.certificate.subject)
        .subject_name(changes.pop("subject", subject))
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
    )
    for extension in {**parts, **changes}.values():
        if extension is not None:
            builder = builder.add_extension(extension[0], critical=extension[1])
    return builder.sign(root.private_key, hashes.SHA256())


def ca_rules(certificate, role=Role.INTERMEDIATE):
    root = PEERS.mesh.root.certificate
    return {
        finding.rule
        for finding in lint(
            Candidate(certificate=certificate, issuer=root, role=role, name=NAME, now=NOW), RULES
        )
    }


def test_signing_certificates_of_the_profile_break_no_rule():
    assert ca_rules(ca_certificate()) == set()
    assert ca_rules(PEERS.mesh.intermediate.certificate) == set()
    assert ca_rules(PEERS.mesh.root.certificate, Role.ROOT) == set()


@pytest.mark.parametrize(
    ("rule", "changes"),
    [
        ("ca-constraints", {"constraints": None}),
        ("ca-constraints", {"constraints": (x509.BasicConstraints(False, None), True)}),
        ("ca-constraints", {"constraints": (x509.BasicConstraints(True, 0), False)}),
        ("ca-constraints", {"constraints": (x509.BasicConstraints(True, None), True)}),
        ("ca-constraints", {"constraints": (x509.BasicConstraints(True, 3), True)}),
        ("ca-key-usage", {"usage": (key_usage("crl_sign"), True)}),
        ("ca-key-usage", {"usage": (key_usage("key_cert_sign", "digital_signature"), True)}),
        ("key-usage-critical", {"usage": None}),
        ("one-uri", {"names": None}),
        (
            "ca-name",
            {
                "names": (
                    x509.SubjectAlternativeName([x509.UniformResourceIdentifier(WEB.uri)]),
                    False,
                )
            },
        ),
        ("ca-subject", {"subject": x509.Name([])}),
        ("subject-key", {"subject_key": None}),
        ("subject-key", {"subject_key": (x509.SubjectKeyIdentifier(b"\1" * 20), False)}),
        ("authority-key", {"authority_key": None}),
    ],
)
def test_a_signing_certificate_off_the_profile_is_found(rule, changes):
    assert rule in ca_rules(ca_certificate(**changes))


def test_a_root_may_not_be_linted_as_an_intermediate():
    assert "ca-constraints" in ca_rules(PEERS.mesh.root.certificate, Role.INTERMEDIATE)


def test_every_rule_names_its_section_once():
    names = [rule.name for rule in RULES]
    assert len(names) == len(set(names))
    assert all("section" in rule.section for rule in RULES)
