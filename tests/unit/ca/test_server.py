from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from mesh.ca import issuance, server
from mesh.ca.linter import lint
from mesh.ca.request import new_key_and_csr, server_key_and_csr
from mesh.ca.server import issue_server, prepare_server, server_name
from mesh.errors import CertificateRefused
from tests.support.certificates import NOW, WEB, Leaf, Peers, build

PEERS = Peers.made()
CSR = server_key_and_csr()[1]


def test_a_servers_certificate_has_its_names_and_no_identity() -> None:
    names = ["ca.example.org", "192.0.2.7", "2001:db8::1", "CA.example.org"]
    made = issue_server(names, CSR, PEERS.mesh.intermediate, serial=7, now=NOW)
    found = made.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert found.critical
    assert [str(name.value) for name in found.value] == names[:3]
    assert made.subject == x509.Name([])
    usage = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert made.not_valid_after_utc == NOW + server.SERVER_LIFETIME
    made.verify_directly_issued_by(PEERS.mesh.intermediate.certificate)


@pytest.mark.parametrize(
    "names",
    [
        *([], [""], ["a b"], ["*.example.org"], ["-a"], ["1.2.3"], ["a..b"], ["ä.example"]),
        *(["a/b"], [WEB.uri], ["x" * 64], [f"h{number}" for number in range(33)]),
    ],
)
def test_what_is_no_name_is_refused(names: list[str]) -> None:
    with pytest.raises(CertificateRefused):
        prepare_server(names, CSR, PEERS.mesh.intermediate.certificate, serial=7, now=NOW)


def test_names_are_canonical() -> None:
    assert server_name(" CA.Example.ORG") == "ca.example.org"
    assert server_name("[2001:DB8:0::1]") == "2001:db8::1"


def draft() -> issuance.Draft:
    issuer = PEERS.mesh.intermediate.certificate
    return prepare_server(["ca.example.org"], CSR, issuer, serial=7, now=NOW)


def findings(**leaf: object) -> set[str]:
    """What the linter says of another certificate in the draft's place."""
    made = build(Leaf(issuer=PEERS.mesh.intermediate, now=NOW, **leaf))  # type: ignore[arg-type]
    candidate = replace(draft().candidate, certificate=made.certificate)
    return {finding.rule for finding in lint(candidate, draft().rules)}


SERVER = {
    "uris": (),
    "more_names": (x509.DNSName("ca.example.org"),),
    "extended": (ExtendedKeyUsageOID.SERVER_AUTH,),
}


def test_the_linter_takes_what_the_profile_wants() -> None:
    assert findings(**SERVER) == set()


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"uris": (WEB.uri,)}, "server-names"),
        ({"more_names": (x509.DNSName("other.example.org"),)}, "server-names"),
        ({"more_names": (*SERVER["more_names"], x509.DNSName("b.org"))}, "server-names"),
        ({"more_names": (x509.RFC822Name("ca@example.org"),)}, "server-names"),
        ({"more_names": ()}, "server-names"),
        ({"extended": None}, "server-usage"),
        (
            {"extended": (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)},
            "server-usage",
        ),
        ({"constraints": x509.BasicConstraints(ca=True, path_length=None)}, "leaf-constraints"),
        ({"usage": None}, "key-usage-critical"),
        ({"names_critical": False}, "critical-name"),
        ({"ends": timedelta(days=3650)}, "within-issuer"),
        ({"subject": x509.Name.from_rfc4514_string("CN=ca")}, "empty-subject"),
    ],
)
def test_the_linter_refuses_anything_else(change: dict[str, object], rule: str) -> None:
    assert rule in findings(**SERVER | change)


def test_a_services_request_makes_no_service_of_a_server() -> None:
    _, csr = new_key_and_csr(WEB)
    made = issue_server(["ca"], csr, PEERS.mesh.intermediate, serial=7, now=NOW)
    assert WEB.uri.encode() not in made.tbs_certificate_bytes
