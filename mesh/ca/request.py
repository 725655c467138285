"""What asks for a certificate: a new key, and the signing request that proves its possession."""

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mesh.ca.chain import key_to_pem
from mesh.model.identity import Identity


def certificate_request(identity: Identity, key: ec.EllipticCurvePrivateKey) -> bytes:
    """A PKCS #10 request (PEM) by `key`. The name in it is for people who look at requests: the
    issuer takes the identity from whoever it admits, never from here.
    """
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity.uri)])
    return _signed(_unnamed().add_extension(names, critical=True), key)


def new_key_and_csr(identity: Identity) -> tuple[bytes, bytes]:
    """A new P-256 key (PKCS #8 PEM) and its request (PEM).

    The one place in the core that takes randomness by itself, from OpenSSL's generator: a key
    that a caller could choose would be a key that a caller could leak.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    return key_to_pem(key), certificate_request(identity, key)


def server_key_and_csr() -> tuple[bytes, bytes]:
    """A new key and its request for the authority's own server, which is given its names."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key_to_pem(key), _signed(_unnamed(), key)


def _unnamed() -> x509.CertificateSigningRequestBuilder:
    return x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))


def _signed(
    builder: x509.CertificateSigningRequestBuilder, key: ec.EllipticCurvePrivateKey
) -> bytes:
    request = builder.sign(key, hashes.SHA256(), ecdsa_deterministic=True)
    return request.public_bytes(serialization.Encoding.PEM)
