"""A throw-away certificate authority for the servers of a demo or a test: etcd and its clients.

    python -m mesh.demo.certificates FOLDER NAME[=HOST,HOST...]...

makes `ca.pem` and, for each NAME, `NAME.pem` and `NAME.key` for a server at those hosts, or for a
client; what is there already stays. It has nothing to do with the mesh's own authority, which
signs the identities of services.
"""

import ipaddress
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LIFETIME = timedelta(days=30)
# The clocks of two machines differ.
EARLIER = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM: the authority's certificate, one that it signed, and the key of that."""

    ca: bytes
    cert: bytes
    key: bytes = field(repr=False)

    def write(self, folder: Path, name: str) -> tuple[Path, Path, Path]:
        """The three as files below `folder`, the key 0600: CA, certificate, key."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = folder / "ca.pem", folder / f"{name}.pem", folder / f"{name}.key"
        for path, content in zip(paths, (self.ca, self.cert, self.key), strict=True):
            path.touch(mode=0o600)
            path.write_bytes(content)
        return paths


class ServerAuthority:
    """A root made when the object is, valid for a month."""

    def __init__(self, name: str = "test servers", now: datetime | None = None) -> None:
        self._now = now or datetime.now(UTC)  # noqa: TID251 - for a test, of this machine's time
        self._name = _name(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            self._builder(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.ca = certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str, *hosts: str) -> Certificate:
        """A certificate with `name` as its common name, good for a client, and for a server at
        `hosts` (names or addresses).
        """
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(_name(name), key)
        if hosts:
            names = x509.SubjectAlternativeName([_host(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return Certificate(
            self.ca,
            certificate.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - EARLIER)
            .not_valid_after(self._now + LIFETIME)
        )


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def main(folder: str, *wanted: str) -> int:
    """Make what is wanted, all by one authority whose key is forgotten."""
    place = Path(folder)
    hosts_of = dict(one.partition("=")[::2] for one in wanted)
    if all((place / f"{name}.key").is_file() for name in hosts_of):
        return 0
    authority = ServerAuthority("demo servers")
    for name, hosts in hosts_of.items():
        authority.issue(name, *filter(None, hosts.split(","))).write(place, name)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
