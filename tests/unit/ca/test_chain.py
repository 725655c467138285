from datetime import timedelta

import pytest

from mesh.ca import rotation
from mesh.ca.chain import (
    fingerprint,
    key_to_pem,
    read_certificates,
    read_private_key,
    read_svid,
    to_pem,
    verify,
)
from mesh.ca.issuance import issue_leaf
from mesh.ca.request import new_key_and_csr
from mesh.errors import CertificateRefused
from mesh.model.identity import Identity, TrustBundle
from tests.support.certificates import (
    BAD_LEAVES,
    LIFETIME,
    NOW,
    OFF_PROFILE_LEAVES,
    WEB,
    Peers,
    good_leaf,
    p256_key,
)

PEERS = Peers.made()
BUNDLE = rotation.bundle(PEERS.mesh)


def test_the_good_leaf_leads_to_the_root():
    assert verify(WEB, good_leaf(PEERS).chain, BUNDLE, NOW) == PEERS.mesh.root.certificate


def test_the_root_is_found_among_others():
    both = TrustBundle(
        BUNDLE.trust_domain, rotation.bundle(PEERS.stranger).roots_pem + BUNDLE.roots_pem
    )
    assert verify(WEB, good_leaf(PEERS).chain, both, NOW) == PEERS.mesh.root.certificate


@pytest.mark.parametrize("kind", sorted({**BAD_LEAVES, **OFF_PROFILE_LEAVES}))
def test_every_kind_of_bad_leaf_is_refused(kind):
    make = {**BAD_LEAVES, **OFF_PROFILE_LEAVES}[kind]
    with pytest.raises(CertificateRefused):
        verify(WEB, make(PEERS).chain, BUNDLE, NOW)


def test_a_leaf_is_refused_outside_its_time():
    chain = good_leaf(PEERS).chain
    with pytest.raises(CertificateRefused, match="expired"):
        verify(WEB, chain, BUNDLE, NOW + LIFETIME + timedelta(seconds=1))
    with pytest.raises(CertificateRefused, match="not valid before"):
        verify(WEB, chain, BUNDLE, NOW - timedelta(minutes=2))


def test_an_identity_of_another_trust_domain_is_refused():
    with pytest.raises(CertificateRefused, match="trust domain"):
        verify(Identity("other", WEB.service), good_leaf(PEERS).chain, BUNDLE, NOW)


def test_an_svid_is_made_of_what_the_issuer_answers():
    key_pem, csr = new_key_and_csr(WEB)
    leaf = issue_leaf(WEB, csr, PEERS.mesh.intermediate, serial=1, now=NOW, lifetime=LIFETIME)
    chain_pem = to_pem(leaf, PEERS.mesh.intermediate.certificate)
    svid = read_svid(WEB, chain_pem, key_pem, BUNDLE, NOW)
    assert svid.identity == WEB
    assert svid.not_after == NOW + LIFETIME
    assert svid.chain_pem == chain_pem
    assert key_pem.decode() not in repr(svid)


def test_a_chain_of_another_key_makes_no_svid():
    good = good_leaf(PEERS)
    with pytest.raises(CertificateRefused, match="another key"):
        read_svid(WEB, good.chain_pem, key_to_pem(p256_key()), BUNDLE, NOW)


@pytest.mark.parametrize("pem", [b"", b"hello", b"-----BEGIN CERTIFICATE-----\n"])
def test_what_is_no_certificate_is_refused(pem):
    with pytest.raises(CertificateRefused, match="not a list of certificates"):
        read_certificates(pem)


def test_the_message_about_a_bad_key_quotes_none_of_it():
    pem = key_to_pem(p256_key())[:90]
    with pytest.raises(CertificateRefused) as refusal:
        read_private_key(pem)
    assert pem[40:60].decode() not in str(refusal.value)
    assert refusal.value.__cause__ is None


def test_a_key_of_another_algorithm_is_refused_by_name():
    rsa = OFF_PROFILE_LEAVES["rsa-key"](PEERS)
    with pytest.raises(CertificateRefused, match="RSA-2048"):
        read_private_key(rsa.private_key_pem)


def test_a_fingerprint_names_its_hash():
    assert fingerprint(PEERS.mesh.root.certificate).startswith("sha256:")
    assert len(fingerprint(PEERS.mesh.root.certificate)) == 7 + 64
