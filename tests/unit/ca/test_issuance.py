from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mesh.ca import parts
from mesh.ca.issuance import (
    BACKDATE,
    INTERMEDIATE_LIFETIME,
    MAX_LEAF_LIFETIME,
    ROOT_LIFETIME,
    check,
    issue_leaf,
    prepare_intermediate,
    prepare_leaf,
    prepare_root,
    read_csr,
    sign,
)
from mesh.ca.request import certificate_request
from mesh.errors import CertificateRefused
from mesh.model.identity import Identity, ServiceName
from tests.support.certificates import LIFETIME, NOW, TRUST_DOMAIN, WEB, Peers, p256_key

PEERS = Peers.made()
KEY = p256_key()
CSR = certificate_request(WEB, KEY)


def issued(identity=WEB, csr=CSR, *, serial=1, now=NOW, lifetime=LIFETIME, authority=None):
    return issue_leaf(
        identity,
        csr,
        authority or PEERS.mesh.intermediate,
        serial=serial,
        now=now,
        lifetime=lifetime,
    )


def test_a_leaf_is_an_x509_svid():
    leaf = issued()
    extensions = leaf.extensions
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName)
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert list(names.value) == [x509.UniformResourceIdentifier(WEB.uri)]
    assert names.critical
    assert leaf.subject == x509.Name([])
    assert usage.critical
    assert usage.value == parts.key_usage(signing=False)
    assert constraints.critical
    assert not constraints.value.ca
    assert set(purposes.value) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert leaf.public_key() == KEY.public_key()


def test_a_leaf_begins_before_it_was_made_for_clocks_that_are_behind():
    leaf = issued()
    assert leaf.not_valid_before_utc == NOW - BACKDATE
    assert leaf.not_valid_after_utc == NOW + LIFETIME


def test_a_leaf_of_seconds_ends_after_those_seconds():
    assert issued(lifetime=timedelta(seconds=5)).not_valid_after_utc == NOW + timedelta(seconds=5)


def test_a_leaf_never_outlives_its_issuer():
    end = PEERS.mesh.intermediate.certificate.not_valid_after_utc
    leaf = issued(now=end - timedelta(hours=1))
    assert leaf.not_valid_after_utc == end


def test_an_intermediate_never_outlives_its_root():
    root = PEERS.mesh.root
    end = root.certificate.not_valid_after_utc
    draft = prepare_intermediate(
        TRUST_DOMAIN, KEY.public_key(), root.certificate, serial=1, now=end - timedelta(days=1)
    )
    assert draft.candidate.certificate.not_valid_after_utc == end


def test_an_expired_issuer_signs_nothing():
    end = PEERS.mesh.intermediate.certificate.not_valid_after_utc
    with pytest.raises(CertificateRefused, match="the issuer is not valid then"):
        issued(now=end + timedelta(hours=1))


def test_root_and_intermediate_live_ten_years_and_one():
    root, intermediate = PEERS.mesh.root.certificate, PEERS.mesh.intermediate.certificate
    assert root.not_valid_after_utc == NOW + ROOT_LIFETIME
    assert intermediate.not_valid_after_utc == NOW + INTERMEDIATE_LIFETIME
    assert timedelta(days=3650) == ROOT_LIFETIME
    assert timedelta(days=365) == INTERMEDIATE_LIFETIME


def test_equal_input_gives_equal_bytes():
    assert issued(serial=7) == issued(serial=7)
    assert issued(serial=7) != issued(serial=8)


def test_what_is_signed_is_what_was_linted():
    draft = prepare_leaf(
        WEB,
        KEY.public_key(),
        PEERS.mesh.intermediate.certificate,
        serial=5,
        now=NOW,
        lifetime=LIFETIME,
    )
    signed = sign(check(draft), PEERS.mesh.intermediate.private_key)
    assert signed.tbs_certificate_bytes == draft.candidate.certificate.tbs_certificate_bytes
    assert signed.signature != draft.candidate.certificate.signature
    signed.verify_directly_issued_by(PEERS.mesh.intermediate.certificate)


def test_a_draft_that_breaks_a_rule_is_never_signed():
    draft = prepare_leaf(
        WEB,
        KEY.public_key(),
        PEERS.mesh.intermediate.certificate,
        serial=5,
        now=NOW,
        lifetime=LIFETIME,
    )
    other = replace(
        draft, candidate=replace(draft.candidate, name="spiffe://mesh.local/ns/a/svc/b")
    )
    with pytest.raises(CertificateRefused, match="expected-name"):
        check(other)


def test_another_key_than_the_issuers_is_refused():
    wrong = replace(PEERS.mesh.intermediate, private_key=p256_key())
    with pytest.raises(CertificateRefused, match="not the issuer's"):
        issued(authority=wrong)


def test_only_the_key_of_a_request_is_used():
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "admin")]))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.UniformResourceIdentifier("spiffe://mesh.local/ns/default/svc/admin")]
            ),
            critical=True,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=9), critical=True)
        .sign(KEY, hashes.SHA256())
    )
    greedy = request.public_bytes(serialization.Encoding.PEM)
    assert issued(csr=greedy) == issued()


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (rsa.generate_private_key(65537, 2048), "RSA-2048"),
        (ed25519.Ed25519PrivateKey.generate(), "Ed25519"),
        (ed448.Ed448PrivateKey.generate(), "Ed448"),
        (ec.generate_private_key(ec.SECP384R1()), "EC secp384r1"),
        (ec.generate_private_key(ec.SECP256K1()), "EC secp256k1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_keys_are_refused_by_name(key, name):
    digest = None if name.startswith("Ed") else hashes.SHA256()
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, digest)
    with pytest.raises(CertificateRefused, match=f"key is {name}, not EC P-256"):
        read_csr(request.public_bytes(serialization.Encoding.PEM))


def test_a_request_without_possession_of_its_key_is_refused():
    der = bytearray(x509.load_pem_x509_csr(CSR).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    forged = x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)
    with pytest.raises(CertificateRefused, match="not signed by its own key"):
        read_csr(forged)


@pytest.mark.parametrize(
    "csr",
    [b"", b"hello", b"\0" * 100, CSR[:100], b"-----BEGIN CERTIFICATE REQUEST-----\n"],
    ids=["nothing", "words", "zeros", "the start of one", "its first line"],
)
def test_what_is_no_request_is_refused(csr):
    with pytest.raises(CertificateRefused, match="not a readable PKCS #10"):
        read_csr(csr)


def test_an_oversized_request_is_refused_unread():
    with pytest.raises(CertificateRefused, match="larger than 16384"):
        read_csr(CSR + b"\n" * 20_000)


@pytest.mark.parametrize(
    "lifetime",
    [timedelta(), timedelta(seconds=-1), timedelta(milliseconds=10), MAX_LEAF_LIFETIME * 2],
)
def test_a_lifetime_out_of_bounds_is_refused(lifetime):
    with pytest.raises(CertificateRefused, match="lifetime"):
        issued(lifetime=lifetime)


@pytest.mark.parametrize(
    "identity",
    [
        Identity("Mesh.Local", WEB.service),
        Identity("mesh.local", ServiceName("default", "")),
        Identity("mesh.local", ServiceName("default", "web/../api")),
        Identity("mesh.local", ServiceName("default", "Web")),
        Identity("mesh.local?x", WEB.service),
    ],
)
def test_an_identity_outside_the_grammar_is_refused(identity):
    with pytest.raises(CertificateRefused):
        issued(identity)


@pytest.mark.parametrize("serial", [0, -1, 1 << 160])
def test_a_serial_number_outside_rfc_5280_is_refused(serial):
    with pytest.raises(CertificateRefused, match="serial"):
        issued(serial=serial)


@pytest.mark.parametrize("trust_domain", ["", "Mesh", "a b", "x/y"])
def test_no_root_for_a_trust_domain_outside_the_grammar(trust_domain):
    with pytest.raises(CertificateRefused, match="trust domain"):
        prepare_root(trust_domain, KEY.public_key(), serial=1, now=NOW)


def test_an_authority_hides_its_key():
    assert "private_key" not in repr(PEERS.mesh)
