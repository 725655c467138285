"""A certificate authority for tests, and every kind of certificate that must be refused.

`BAD_LEAVES` maps a kind to its maker: each gives what a bad peer would present to a sidecar of
`Peers`. The linter's tests and the handshakes with a real sidecar run the same list.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mesh.ca import rotation
from mesh.ca.chain import to_pem
from mesh.ca.issuance import Authority
from mesh.ca.rotation import Material, State
from mesh.model.identity import Identity, ServiceName

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
TRUST_DOMAIN = "mesh.local"
WEB = Identity(TRUST_DOMAIN, ServiceName("default", "web"))
LIFETIME = timedelta(hours=24)

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

ALL_KEY_USAGES = {
    "digital_signature": False,
    "content_commitment": False,
    "key_encipherment": False,
    "data_encipherment": False,
    "key_agreement": False,
    "key_cert_sign": False,
    "crl_sign": False,
    "encipher_only": False,
    "decipher_only": False,
}


def p256_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def material() -> Material:
    return Material(
        root_key=p256_key(),
        intermediate_key=p256_key(),
        root_serial=x509.random_serial_number(),
        intermediate_serial=x509.random_serial_number(),
    )


def key_usage(*names: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{**ALL_KEY_USAGES, **dict.fromkeys(names, True)})


@dataclass(frozen=True, kw_only=True)
class Peers:
    """Whom a bad peer can get a certificate from: the mesh's CA and a stranger's."""

    mesh: State
    stranger: State
    now: datetime

    @staticmethod
    def made(now: datetime = NOW, trust_domain: str = TRUST_DOMAIN) -> "Peers":
        return Peers(
            mesh=rotation.found(trust_domain, material(), now),
            stranger=rotation.found(trust_domain, material(), now),
            now=now,
        )


LEAF_CONSTRAINTS = x509.BasicConstraints(ca=False, path_length=None)
LEAF_USAGE = key_usage("digital_signature")
NO_NAME = x509.Name([])


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """What a leaf says: by default what the profile wants. None leaves the extension out."""

    issuer: Authority
    now: datetime
    uris: tuple[str, ...] = (WEB.uri,)
    more_names: tuple[x509.GeneralName, ...] = ()
    names_critical: bool = True
    constraints: x509.BasicConstraints | None = LEAF_CONSTRAINTS
    constraints_critical: bool = True
    usage: x509.KeyUsage | None = LEAF_USAGE
    usage_critical: bool = True
    extended: tuple[x509.ObjectIdentifier, ...] | None = (
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    )
    subject: x509.Name = NO_NAME
    issuer_name: x509.Name | None = None
    authority_key: bytes | None = None
    has_authority_key: bool = True
    more: tuple[tuple[x509.ExtensionType, bool], ...] = ()
    starts: timedelta = timedelta(minutes=-1)
    ends: timedelta = LIFETIME
    digest: type[hashes.SHA256] | type[hashes.SHA384] = hashes.SHA256
    key: PrivateKey | None = None
    chain: tuple[x509.Certificate, ...] | None = None


@dataclass(frozen=True)
class Presented:
    """A certificate with its key and the chain that is sent along (leaf first)."""

    certificate: x509.Certificate
    key: PrivateKey
    chain: tuple[x509.Certificate, ...]

    @property
    def chain_pem(self) -> bytes:
        return to_pem(*self.chain)

    @property
    def private_key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )


def build(leaf: Leaf) -> Presented:
    """Sign a leaf just as it is asked for, without any lint."""
    key = leaf.key or p256_key()
    builder = (
        x509.CertificateBuilder()
        .public_key(key.public_key())
        .issuer_name(leaf.issuer_name or leaf.issuer.certificate.subject)
        .subject_name(leaf.subject)
        .serial_number(x509.random_serial_number())
        .not_valid_before(leaf.now + leaf.starts)
        .not_valid_after(leaf.now + leaf.ends)
    )
    for extension, critical in _extensions(leaf):
        builder = builder.add_extension(extension, critical=critical)
    certificate = builder.sign(leaf.issuer.private_key, leaf.digest())
    chain = leaf.chain if leaf.chain is not None else (leaf.issuer.certificate,)
    return Presented(certificate, key, (certificate, *chain))


def _extensions(leaf: Leaf) -> list[tuple[x509.ExtensionType, bool]]:
    found: list[tuple[x509.ExtensionType, bool]] = []
    if leaf.constraints is not None:
        found.append((leaf.constraints, leaf.constraints_critical))
    if leaf.usage is not None:
        found.append((leaf.usage, leaf.usage_critical))
    if leaf.extended is not None:
        found.append((x509.ExtendedKeyUsage(leaf.extended), False))
    names = [x509.UniformResourceIdentifier(uri) for uri in leaf.uris]
    if names or leaf.more_names:
        found.append((x509.SubjectAlternativeName([*names, *leaf.more_names]), leaf.names_critical))
    if leaf.has_authority_key:
        own = leaf.issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        key_id = leaf.authority_key or own.value.digest
        found.append((x509.AuthorityKeyIdentifier(key_id, None, None), False))
    return [*found, *leaf.more]


def good_leaf(peers: Peers) -> Presented:
    """What the profile wants: the control of every refusal."""
    return build(_leaf(peers))


def _leaf(peers: Peers) -> Leaf:
    return Leaf(issuer=peers.mesh.intermediate, now=peers.now)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


Maker = Callable[[Peers], Presented]


def _with(**changes: object) -> Maker:
    def make(peers: Peers) -> Presented:
        return build(replace(_leaf(peers), **changes))

    return make


def _uris(*uris: str) -> Maker:
    return _with(uris=uris)


def _by_stranger(peers: Peers) -> Presented:
    return build(Leaf(issuer=peers.stranger.intermediate, now=peers.now))


def _by_strangers_root(peers: Peers) -> Presented:
    return build(Leaf(issuer=peers.stranger.root, now=peers.now))


def _by_stranger_with_our_chain(peers: Peers) -> Presented:
    """Our issuer's names on a stranger's signature."""
    ours = peers.mesh.intermediate.certificate
    own = ours.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    return build(
        Leaf(
            issuer=peers.stranger.intermediate,
            now=peers.now,
            issuer_name=ours.subject,
            authority_key=own.value.digest,
            chain=(ours,),
        )
    )


def _by_a_leaf(peers: Peers) -> Presented:
    """A member of the mesh who plays CA with its own leaf."""
    member = good_leaf(peers)
    assert isinstance(member.key, ec.EllipticCurvePrivateKey)
    ours = peers.mesh.intermediate.certificate
    key_id = x509.SubjectKeyIdentifier.from_public_key(member.key.public_key())
    fake = Leaf(
        issuer=peers.mesh.intermediate,
        now=peers.now,
        issuer_name=_name("leaf"),
        authority_key=key_id.digest,
        chain=(member.certificate, ours),
    )
    fake = replace(fake, issuer=Authority(ours, member.key))
    return build(fake)


def _self_signed(peers: Peers) -> Presented:
    key = p256_key()
    key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return build(
        Leaf(
            issuer=Authority(peers.mesh.intermediate.certificate, key),
            now=peers.now,
            key=key,
            subject=_name("me"),
            issuer_name=_name("me"),
            authority_key=key_id.digest,
            chain=(),
        )
    )


def _intermediate_itself(peers: Peers) -> Presented:
    """Somebody with the CA's key presents the signing certificate (X509-SVID section 3.2)."""
    issuing = peers.mesh.intermediate
    return Presented(issuing.certificate, issuing.private_key, (issuing.certificate,))


def _outlives_issuer(peers: Peers) -> Presented:
    end = peers.mesh.intermediate.certificate.not_valid_after_utc
    return build(replace(_leaf(peers), ends=end - peers.now + timedelta(days=1)))


def _before_issuer(peers: Peers) -> Presented:
    start = peers.mesh.intermediate.certificate.not_valid_before_utc
    return build(replace(_leaf(peers), starts=start - peers.now - timedelta(days=1)))


OWN = f"spiffe://{TRUST_DOMAIN}"

# What a validator must refuse in a handshake (X509-SVID section 5, SPIFFE-ID section 2, RFC 5280
# section 6.1), whoever signed it.
BAD_LEAVES: dict[str, Maker] = {
    "by-a-stranger": _by_stranger,
    "by-a-strangers-root": _by_strangers_root,
    "by-a-stranger-in-our-name": _by_stranger_with_our_chain,
    "by-a-leaf": _by_a_leaf,
    "self-signed": _self_signed,
    "the-intermediate-itself": _intermediate_itself,
    "expired": _with(starts=timedelta(hours=-2), ends=timedelta(hours=-1)),
    "not-yet-valid": _with(starts=timedelta(hours=1), ends=timedelta(hours=2)),
    "ca-true": _with(constraints=x509.BasicConstraints(ca=True, path_length=None)),
    "ca-true-with-cert-sign": _with(
        constraints=x509.BasicConstraints(ca=True, path_length=0),
        usage=key_usage("digital_signature", "key_cert_sign"),
    ),
    "cert-sign": _with(usage=key_usage("digital_signature", "key_cert_sign")),
    "crl-sign": _with(usage=key_usage("digital_signature", "crl_sign")),
    "no-digital-signature": _with(usage=key_usage("key_encipherment")),
    "no-names": _uris(),
    "dns-name-only": _with(uris=(), more_names=(x509.DNSName("web.default.mesh"),)),
    "two-own-ids": _uris(WEB.uri, f"{OWN}/ns/default/svc/admin"),
    "two-own-ids-other-order": _uris(f"{OWN}/ns/default/svc/admin", WEB.uri),
    "own-id-twice": _uris(WEB.uri, WEB.uri),
    "own-and-foreign-id": _uris(WEB.uri, "spiffe://other.example/ns/default/svc/web"),
    "foreign-and-own-id": _uris("spiffe://other.example/ns/default/svc/web", WEB.uri),
    "https-and-own-id": _uris("https://example.com/", WEB.uri),
    "foreign-trust-domain": _uris("spiffe://other.example/ns/default/svc/web"),
    "trust-domain-suffix": _uris(f"{OWN}.evil.example/ns/default/svc/web"),
    "trust-domain-upper-case": _uris("spiffe://MESH.local/ns/default/svc/web"),
    "trust-domain-with-port": _uris(f"{OWN}:8443/ns/default/svc/web"),
    "trust-domain-with-user": _uris("spiffe://me@mesh.local/ns/default/svc/web"),
    "trust-domain-only": _uris(OWN),
    "trust-domain-with-slash": _uris(f"{OWN}/"),
    "query": _uris(f"{WEB.uri}?admin=1"),
    "fragment": _uris(f"{WEB.uri}#admin"),
    "https-id": _uris("https://mesh.local/ns/default/svc/web"),
    "upper-case-scheme": _uris("SPIFFE://mesh.local/ns/default/svc/web"),
    "dot-segments": _uris(f"{OWN}/ns/default/svc/api/../web"),
    "empty-segment": _uris(f"{OWN}/ns/default/svc//web"),
    "percent-encoded": _uris(f"{OWN}/ns/default/svc/w%65b"),
    "trailing-slash": _uris(f"{WEB.uri}/"),
    "other-service": _uris(f"{OWN}/ns/default/svc/admin"),
    "other-namespace": _uris(f"{OWN}/ns/shop/svc/web"),
    "longer-path": _uris(f"{WEB.uri}/admin"),
    "ed25519-key": lambda peers: build(
        replace(_leaf(peers), key=ed25519.Ed25519PrivateKey.generate())
    ),
}

# What a peer may accept (the standards allow it, or leave it to the issuer) and our CA never
# signs: the linter's list is longer than a validator's.
OFF_PROFILE_LEAVES: dict[str, Maker] = {
    "rsa-key": lambda peers: build(
        replace(_leaf(peers), key=rsa.generate_private_key(65537, 2048))
    ),
    "p384-key": lambda peers: build(
        replace(_leaf(peers), key=ec.generate_private_key(ec.SECP384R1()))
    ),
    "sha384-signature": _with(digest=hashes.SHA384),
    "dns-name-beside": _with(more_names=(x509.DNSName("web.default.mesh"),)),
    "subject": _with(subject=_name("web")),
    "names-not-critical": _with(names_critical=False),
    "no-constraints": _with(constraints=None),
    "constraints-not-critical": _with(constraints_critical=False),
    "no-key-usage": _with(usage=None),
    "key-usage-not-critical": _with(usage_critical=False),
    "key-encipherment": _with(usage=key_usage("digital_signature", "key_encipherment")),
    "no-extended-key-usage": _with(extended=None),
    "server-only": _with(extended=(ExtendedKeyUsageOID.SERVER_AUTH,)),
    "client-only": _with(extended=(ExtendedKeyUsageOID.CLIENT_AUTH,)),
    "code-signing": _with(
        extended=(
            ExtendedKeyUsageOID.SERVER_AUTH,
            ExtendedKeyUsageOID.CLIENT_AUTH,
            ExtendedKeyUsageOID.CODE_SIGNING,
        )
    ),
    "no-authority-key": _with(has_authority_key=False),
    "other-authority-key": _with(authority_key=b"\1" * 20),
    "outlives-issuer": _outlives_issuer,
    "begins-before-issuer": _before_issuer,
    "unknown-critical-extension": _with(
        more=((x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.9999.1"), b"\5\0"), True),)
    ),
    "unknown-extension": _with(
        more=((x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.9999.1"), b"\5\0"), False),)
    ),
}
