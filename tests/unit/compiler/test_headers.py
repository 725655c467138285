from typing import Any

import pytest

from mesh.compiler import headers
from mesh.model.policy import Filters, HeaderModifier, ValueMatch, ValueMatchType


def _request(*modifiers: HeaderModifier, strip: tuple[str, ...] = ()) -> dict[str, Any]:
    return headers.modifications(
        *(Filters(request_headers=each) for each in modifiers), strip=strip
    )


def _pairs(fields: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [
        (each["header"]["key"], each["header"]["value"], each["append_action"].split("_")[0])
        for each in fields.get("request_headers_to_add", ())
    ]


def test_nothing_to_do_leaves_no_field() -> None:
    assert headers.modifications(Filters(), Filters()) == {}


def test_percent_signs_are_escaped() -> None:
    fields = _request(HeaderModifier(set=(("x", "100% %REQ(a)%"),)))
    assert _pairs(fields) == [("x", "100%% %%REQ(a)%%", "OVERWRITE")]


def test_set_comes_before_add_and_an_empty_value_is_kept() -> None:
    fields = _request(HeaderModifier(set=(("x", ""),), add=(("y", "1"),), remove=("z",)))
    assert _pairs(fields) == [("x", "", "OVERWRITE"), ("y", "1", "APPEND")]
    assert all(each["keep_empty_value"] for each in fields["request_headers_to_add"])
    assert fields["request_headers_to_remove"] == ["z"]


@pytest.mark.parametrize(
    ("first", "second", "pairs", "removed"),
    [
        # what the later one sets or removes is all that is left
        ({"set": (("x", "1"),)}, {"set": (("X", "2"),)}, [("X", "2", "OVERWRITE")], None),
        ({"add": (("x", "1"),)}, {"set": (("x", "2"),)}, [("x", "2", "OVERWRITE")], None),
        ({"remove": ("x",)}, {"set": (("x", "2"),)}, [("x", "2", "OVERWRITE")], None),
        ({"set": (("x", "1"),)}, {"remove": ("x",)}, [], ["x"]),
        ({"remove": ("x",)}, {"remove": ("X",)}, [], ["X"]),
        # what it adds comes on top
        (
            {"set": (("x", "1"),)},
            {"add": (("x", "2"),)},
            [("x", "1", "OVERWRITE"), ("x", "2", "APPEND")],
            None,
        ),
        ({"remove": ("x",)}, {"add": (("x", "2"),)}, [("x", "2", "APPEND")], ["x"]),
    ],
)
def test_a_second_modifier_acts_after_the_first(
    first: dict[str, Any],
    second: dict[str, Any],
    pairs: list[tuple[str, str, str]],
    removed: list[str] | None,
) -> None:
    fields = _request(HeaderModifier(**first), HeaderModifier(**second))
    assert _pairs(fields) == pairs
    assert fields.get("request_headers_to_remove") == removed


def test_stripped_headers_join_those_that_are_removed() -> None:
    filters = Filters(response_headers=HeaderModifier(remove=("x",)))
    fields = headers.modifications(filters, strip=["y"])
    assert fields == {"response_headers_to_remove": ["x", "y"]}


def test_only_the_first_match_of_a_name_counts() -> None:
    matches = [
        ValueMatch("a", "1"),
        ValueMatch("a", "2"),
        ValueMatch("b", "x+", ValueMatchType.REGEX),
    ]
    assert headers.matchers(matches) == [
        {"name": "a", "string_match": {"exact": "1"}},
        {"name": "b", "string_match": {"safe_regex": {"regex": "x+"}}},
    ]
