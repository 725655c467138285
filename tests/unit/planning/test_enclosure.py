"""What a commit encloses is read back, bounded, and never believed."""

import hashlib
import json

from hypothesis import given
from hypothesis import strategies as st

from mesh.planning.enclosure import MAX_BYTES, enclose, enclosed


def named(*pieces: bytes) -> dict[str, bytes]:
    return {hashlib.sha256(piece).hexdigest(): piece for piece in pieces}


@given(st.lists(st.text().map(lambda text: text.encode("utf-8", "surrogatepass")), max_size=5))
def test_what_is_enclosed_is_read_back(pieces: list[bytes]) -> None:
    assert enclosed(enclose(named(*pieces))) == named(*pieces)


def test_what_does_not_fit_is_left_out() -> None:
    small, large = b"s" * 100, b"l" * (MAX_BYTES - 99)
    assert enclosed(enclose(named(small, large))) == named(small)
    assert enclosed(enclose(named(large, small))) == named(large)


def test_a_piece_under_another_name_does_not_count() -> None:
    right, wrong = named(b"right"), {hashlib.sha256(b"one").hexdigest(): b"another"}
    assert enclosed(enclose(right | wrong)) == right


def test_what_cannot_be_read_encloses_nothing() -> None:
    for data in (b"", b"{", b"[]", b"\xff", json.dumps({"a": 1}).encode()):
        assert enclosed(data) == {}
