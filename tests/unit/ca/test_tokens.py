from datetime import timedelta

import pytest

from mesh.ca import tokens
from mesh.ca.tokens import JoinToken, Refusal
from mesh.model.identity import ServiceName
from tests.support.certificates import NOW

WEB = ServiceName("default", "web")
HOUR = timedelta(hours=1)
TOKEN = JoinToken(id="abc", service=WEB, created=NOW, expires=NOW + HOUR, uses=2)


def test_a_use_is_spent_by_each_key_once() -> None:
    first = tokens.redeem(TOKEN, WEB, "a", NOW)
    assert isinstance(first, JoinToken)
    assert (first.uses, first.keys) == (1, ("a",))
    assert tokens.redeem(first, WEB, "a", NOW) == first
    second = tokens.redeem(first, WEB, "b", NOW)
    assert isinstance(second, JoinToken)
    assert tokens.redeem(second, WEB, "c", NOW) is Refusal.USED
    assert tokens.redeem(second, WEB, "b", NOW) == second


@pytest.mark.parametrize("service", [ServiceName("default", "api"), ServiceName("shop", "web")])
def test_a_token_is_for_one_service_of_one_namespace(service: ServiceName) -> None:
    assert tokens.redeem(TOKEN, service, "a", NOW) is Refusal.OTHER_SERVICE


def test_a_token_ends_with_its_last_moment_also_for_known_keys() -> None:
    known = tokens.redeem(TOKEN, WEB, "a", NOW + HOUR - timedelta(microseconds=1))
    assert isinstance(known, JoinToken)
    assert tokens.redeem(known, WEB, "a", NOW + HOUR) is Refusal.EXPIRED


def test_a_record_is_read_as_it_was_written() -> None:
    known = tokens.redeem(TOKEN, WEB, "a", NOW)
    assert isinstance(known, JoinToken)
    assert tokens.read_token(tokens.write_token(known)) == known


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'"x"', b'{"id": 1, "service": 3}'])
def test_anything_else_is_no_record(content: bytes) -> None:
    with pytest.raises(ValueError, match="not a join token"):
        tokens.read_token(content)


def test_the_form_of_a_token_is_known() -> None:
    token = tokens.token_of("A" * 43)
    assert tokens.is_token(token)
    for wrong in ("", token[:-1], token + "A", token + "\n", token.upper(), "A" * 43):
        assert not tokens.is_token(wrong)


def test_states_are_words() -> None:
    used = JoinToken(id="abc", service=WEB, created=NOW, expires=NOW + HOUR, uses=0)
    assert TOKEN.state(NOW) == "valid"
    assert used.state(NOW) == "used"
    assert used.state(NOW + HOUR) == "expired"
