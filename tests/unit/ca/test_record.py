import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.ca import rotation
from mesh.ca.record import decode, encode
from mesh.ca.rotation import Step
from mesh.errors import CertificateRefused
from tests.support.certificates import NOW, Peers, material

STATE = rotation.record_leaf(Peers.made().mesh, timedelta(hours=24))
PREPARED = rotation.take(STATE, Step.PREPARE_ROOT, material(), NOW)
ACTIVATED = rotation.take(PREPARED, Step.ACTIVATE_ROOT, material(), NOW)


@pytest.mark.parametrize("state", [STATE, PREPARED, ACTIVATED])
def test_a_state_is_read_back_as_written(state):
    again = decode(encode(state))
    assert again == state
    assert again.root.private_key.private_numbers() == state.root.private_key.private_numbers()


def test_the_key_of_a_retiring_root_is_forgotten():
    assert encode(ACTIVATED).count(b"BEGIN PRIVATE KEY") == 2


@given(st.binary(max_size=200))
def test_other_bytes_are_refused(content):
    with pytest.raises(CertificateRefused):
        decode(content)


@given(st.integers(min_value=0, max_value=len(encode(STATE)) - 3))
def test_a_torn_file_is_refused(length):
    with pytest.raises(CertificateRefused):
        decode(encode(STATE)[:length])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 2),
        ("trust_domain", 7),
        ("root", None),
        ("intermediate", {}),
        ("prepared", []),
        ("retiring", {}),
        ("retiring", [{"certificate": "x", "retire_at": "soon"}]),
        ("longest_leaf_seconds", "1"),
        ("longest_leaf_seconds", 1e300),
    ],
)
def test_a_wrong_field_is_refused(field, value):
    document = json.loads(encode(STATE)) | {field: value}
    with pytest.raises(CertificateRefused):
        decode(json.dumps(document).encode())


def test_a_missing_field_is_refused():
    for field in json.loads(encode(STATE)):
        document = json.loads(encode(STATE))
        del document[field]
        with pytest.raises(CertificateRefused):
            decode(json.dumps(document).encode())


def test_keys_of_other_certificates_are_refused():
    document = json.loads(encode(STATE))
    document["root"]["private_key"] = document["intermediate"]["private_key"]
    with pytest.raises(CertificateRefused, match="not that of"):
        decode(json.dumps(document).encode())


def test_an_intermediate_of_another_root_is_refused():
    document = json.loads(encode(STATE))
    document["intermediate"] = json.loads(encode(Peers.made().mesh))["intermediate"]
    with pytest.raises(CertificateRefused, match="not signed by the root"):
        decode(json.dumps(document).encode())


def test_refusals_quote_no_key():
    document = json.loads(encode(STATE))
    key = document["root"]["private_key"]
    document["root"]["private_key"] = key.replace("M", "#")
    with pytest.raises(CertificateRefused) as refusal:
        decode(json.dumps(document).encode())
    assert key[40:70] not in str(refusal.value)
