"""The rewrites' results are in the conformance suite, where RE2 itself reads the expressions."""

import re

import pytest

from mesh.compiler import paths
from mesh.model.policy import PathMatch, PathMatchType, ReplaceFullPath, ReplacePrefixMatch


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (PathMatch(), {"prefix": "/"}),
        (PathMatch(PathMatchType.PREFIX, "/a"), {"path_separated_prefix": "/a"}),
        (PathMatch(PathMatchType.PREFIX, "/a/"), {"path_separated_prefix": "/a"}),
        (PathMatch(PathMatchType.EXACT, "/a/"), {"path": "/a/"}),
        (PathMatch(PathMatchType.REGEX, "/a.*"), {"safe_regex": {"regex": "/a.*"}}),
    ],
)
def test_each_type_of_match(path: PathMatch, expected: object) -> None:
    assert paths.match(path) == expected


def test_a_full_path_replaces_everything() -> None:
    rewrite = paths.rewrite(ReplaceFullPath("/new"), PathMatch())
    assert rewrite == {"pattern": {"regex": "^.*$"}, "substitution": "/new"}


@pytest.mark.parametrize(
    ("prefix", "replacement", "regex", "substitution"),
    [
        ("/a/", "/b/", "^/a(/.*)?$", r"/b\1"),
        ("/", "/b", "^(/.*)?$", r"/b\1"),
        ("/a", "", "^/a/?(.*)$", r"/\1"),
        ("/a", "/", "^/a/?(.*)$", r"/\1"),
    ],
)
def test_a_prefix_is_replaced_without_its_trailing_slash(
    prefix: str, replacement: str, regex: str, substitution: str
) -> None:
    matched = PathMatch(PathMatchType.PREFIX, prefix)
    rewrite = paths.rewrite(ReplacePrefixMatch(replacement), matched)
    assert rewrite == {"pattern": {"regex": regex}, "substitution": substitution}


def test_special_characters_are_text() -> None:
    matched = PathMatch(PathMatchType.PREFIX, "/a.(b)+")
    rewrite = paths.rewrite(ReplacePrefixMatch(r"/\1"), matched)
    assert re.fullmatch(rewrite["pattern"]["regex"], "/a.(b)+/c")
    assert not re.fullmatch(rewrite["pattern"]["regex"], "/aab/c")
    assert rewrite["substitution"] == r"/\\1\1"
