from datetime import UTC, datetime

import pytest

from mesh.errors import HeadWentBack
from mesh.model.revision import Revision
from mesh.planning.record import Head
from mesh.sidecar.ratchet import Ratchet

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def head(number: int, change: str = "", origin: str = "first") -> Head:
    revision = Revision(
        number=number,
        parent=number - 1,
        time=NOW,
        author="a",
        message="",
        source="main",
        commit=None,
        created=0,
        updated=0,
        deleted=0,
    )
    return Head(revision=revision, change=change or f"c{number}", origin=origin)


def ratchet(accepted: Head | None = None, remembered: Head | None = None) -> Ratchet:
    found = Ratchet()
    found.remember(remembered)
    found.accept(accepted)
    return found


@pytest.mark.parametrize("first", [None, head(1), head(9)])
def test_who_knows_nothing_takes_anything(first: Head | None) -> None:
    ratchet().check(first)


@pytest.mark.parametrize("newest", [head(5), head(6), head(9), head(6, origin="other")])
def test_the_same_and_newer_ones_are_taken(newest: Head) -> None:
    ratchet(head(5)).check(newest)
    ratchet(remembered=head(5)).check(newest)


@pytest.mark.parametrize(
    ("newest", "message"),
    [
        (head(4), "the store's head went back from revision 5 to 4"),
        (head(5, "fork"), "the store's revision 5 is another one than before"),
        (None, "the store has no revision any more; 5 was its head"),
    ],
)
def test_what_is_older_or_another_is_refused_with_a_remedy(
    newest: Head | None, message: str
) -> None:
    for one in (ratchet(head(5)), ratchet(remembered=head(5))):
        with pytest.raises(HeadWentBack) as caught:
            one.check(newest)
        assert caught.value.message == message
        assert "--accept-restore" in caught.value.hint


def test_another_meshs_store_is_followed_by_a_start_and_never_meanwhile() -> None:
    stranger = head(2, origin="other")
    ratchet(remembered=head(5)).check(stranger)
    with pytest.raises(HeadWentBack):
        ratchet(head(5)).check(stranger)
    with pytest.raises(HeadWentBack):
        ratchet(head(5), remembered=head(3)).check(stranger)
    with pytest.raises(HeadWentBack):  # a record of before there were origins may be of any
        ratchet(remembered=head(5)).check(head(2, origin=""))


def test_no_revision_is_no_news() -> None:
    one = ratchet(head(5))
    one.accept(None)
    with pytest.raises(HeadWentBack):
        one.check(None)
