"""Certificates of the demo's servers."""

from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from mesh.demo.certificates import ServerAuthority, main

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def test_it_signs_servers_at_names_and_addresses() -> None:
    issued = ServerAuthority(now=NOON).issue("etcd", "etcd", "127.0.0.1")
    certificate = x509.load_pem_x509_certificate(issued.cert)
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(issued.ca))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["etcd"]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    assert certificate.not_valid_before_utc < NOON < certificate.not_valid_after_utc


def test_a_key_is_not_shown() -> None:
    assert "PRIVATE" not in repr(ServerAuthority(now=NOON).issue("etcd"))


def test_the_program_makes_what_is_wanted_and_keeps_what_is_there(tmp_path: Path) -> None:
    main(str(tmp_path), "etcd1=etcd1,127.0.0.1", "mesh")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"ca.pem", "etcd1.pem", "etcd1.key", "mesh.pem", "mesh.key"}
    assert (tmp_path / "mesh.key").stat().st_mode & 0o777 == 0o600
    before = (tmp_path / "mesh.pem").read_bytes()
    main(str(tmp_path), "etcd1=etcd1,127.0.0.1", "mesh")
    assert (tmp_path / "mesh.pem").read_bytes() == before
