"""Secrets of a view: what is there is in them, and nothing else is."""

from dataclasses import replace

from mesh.compiler.secrets import secrets
from mesh.model.policy import Protocol
from tests.support import sidecars
from tests.support.policies import policies, service

AUTHORITY = sidecars.Authority()


def test_the_leaf_and_the_roots_are_secrets_of_their_own() -> None:
    view = sidecars.view(policies(), sidecars.placement("web", app=80), AUTHORITY)
    found = {each.name: each.json for each in secrets(view)}
    assert found.keys() == {"svid", "peers"}
    assert view.svid is not None
    assert found["svid"]["tls_certificate"]["certificate_chain"] == {
        "inline_string": view.svid.chain_pem.decode()
    }
    validator = found["peers"]["validation_context"]["custom_validator_config"]
    assert validator["name"] == "envoy.tls.cert_validator.spiffe"
    (domain,) = validator["typed_config"]["trust_domains"]
    assert domain["name"] == "mesh.local"
    assert domain["trust_bundle"]["inline_string"] == AUTHORITY.bundle.roots_pem.decode()


def test_a_tcp_service_validates_its_callers_by_name() -> None:
    items = policies(service("db", Protocol.TCP, 5432))
    view = sidecars.view(items, sidecars.placement("db", app=5432), AUTHORITY)
    found = {each.name: each.json for each in secrets(view)}
    assert found.keys() == {"svid", "peers", "callers"}
    assert found["callers"]["validation_context"]["match_typed_subject_alt_names"]
    assert "match_typed_subject_alt_names" not in found["peers"]["validation_context"]


def test_without_a_certificate_there_are_none() -> None:
    view = sidecars.view(policies(), sidecars.placement("web", app=80))
    assert secrets(view) == []


def test_no_secret_shows_its_content() -> None:
    view = sidecars.view(policies(), sidecars.placement("web", app=80), AUTHORITY)
    assert view.svid is not None
    bare = replace(view.svid, chain_pem=b"")
    assert "PRIVATE KEY" not in repr([*secrets(view), bare, view])
