from dataclasses import replace

from cryptography import x509

from mesh.ca.linter import Candidate, Role, lint
from mesh.ca.rules import RULES
from tests.support.certificates import BAD_LEAVES, NOW, WEB, Peers, good_leaf

PEERS = Peers.made()
CANDIDATE = Candidate(
    certificate=good_leaf(PEERS).certificate,
    issuer=PEERS.mesh.intermediate.certificate,
    role=Role.LEAF,
    name=WEB.uri,
    now=NOW,
)


def test_a_finding_says_what_is_wrong_and_which_rule_says_so():
    candidate = replace(CANDIDATE, certificate=BAD_LEAVES["ca-true"](PEERS).certificate)
    (finding,) = lint(candidate, RULES)
    assert str(finding) == "a leaf with CA:TRUE [leaf-constraints, X509-SVID section 4.1]"
    assert lint(CANDIDATE, RULES) == ()


def test_a_rule_holds_for_its_roles_only():
    bad = BAD_LEAVES["ca-true"](PEERS).certificate
    rules = tuple(rule for rule in RULES if rule.name == "leaf-constraints")
    assert lint(replace(CANDIDATE, certificate=bad), rules)
    assert lint(replace(CANDIDATE, certificate=bad, role=Role.ROOT), rules) == ()


def test_a_candidate_knows_its_extensions_and_uris():
    assert CANDIDATE.uris == (WEB.uri,)
    names = CANDIDATE.extension(x509.SubjectAlternativeName)
    assert names is not None
    assert names.critical
    assert CANDIDATE.extension(x509.NameConstraints) is None
    assert replace(CANDIDATE, certificate=BAD_LEAVES["no-names"](PEERS).certificate).uris == ()
