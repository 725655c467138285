import pytest

from mesh.ca.spiffe import MalformedID, parse_id, parse_identity, parse_trust_domain
from mesh.model.identity import Identity, ServiceName


def test_an_identity_is_read_back_from_its_uri():
    identity = Identity("prod.example_1", ServiceName("shop", "api-v1"))
    assert parse_identity(identity.uri) == identity


def test_a_trust_domain_alone_has_no_path():
    assert parse_id("spiffe://mesh.local") == ("mesh.local", "")


def test_segments_keep_their_case():
    assert parse_id("spiffe://td/Some-Path/x_1.Y") == ("td", "/Some-Path/x_1.Y")


@pytest.mark.parametrize(
    "text", ["", "Mesh", "mesh local", "mesh:1", "a" * 256, "mésh", "a/b", "a\n"]
)
def test_trust_domains_outside_the_grammar_are_refused(text):
    with pytest.raises(MalformedID) as refusal:
        parse_trust_domain(text)
    assert refusal.value.section == "SPIFFE-ID section 2.1"


@pytest.mark.parametrize(
    ("uri", "section"),
    [
        ("https://td/x", "2"),
        ("SPIFFE://td/x", "2"),
        ("spiffe:/td/x", "2"),
        ("spiffe://td/x?y", "2"),
        ("spiffe://td/x#y", "2"),
        ("spiffe:///x", "2.1"),
        ("spiffe://td/", "2.2"),
        ("spiffe://td//x", "2.2"),
        ("spiffe://td/x/", "2.2"),
        ("spiffe://td/./x", "2.2"),
        ("spiffe://td/../x", "2.2"),
        ("spiffe://td/%41", "2.2"),
        ("spiffe://td/x y", "2.2"),
        ("spiffe://td/" + "x" * 2048, "2.3"),
    ],
)
def test_ids_outside_the_grammar_are_refused_by_section(uri, section):
    with pytest.raises(MalformedID) as refusal:
        parse_id(uri)
    assert refusal.value.section == f"SPIFFE-ID section {section}"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/ns/default",
        "/ns/default/svc/web/x",
        "/svc/web/ns/default",
        "/ns/default/sa/web",
        "/ns/Default/svc/web",
        "/ns/default/svc/-web",
        f"/ns/default/svc/{'w' * 64}",
    ],
)
def test_ids_that_no_service_of_the_mesh_has_are_refused(path):
    with pytest.raises(MalformedID):
        parse_identity(f"spiffe://mesh.local{path}")
