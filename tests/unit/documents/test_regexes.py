"""What RE2 reads and what it does not (github.com/google/re2/wiki/Syntax)."""

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.documents.regexes import refusal


@pytest.mark.parametrize(
    "pattern",
    [
        "/items/[0-9]+",
        "/a.*",
        "^/a$",
        "a*?b+?c??",
        "a{2}b{2,}c{2,3}?",
        "a{,3}",
        "{",
        "(a|b|)",
        "()",
        "(?:a)(?i)b(?i:c)(?s-m:d)",
        "(?P<name>a)(?<other>b)",
        "[]a]",
        "[^]a]",
        "[a-z0-9_-]",
        r"[-a][a\-b][^-a]",
        "[[:alpha:][:^digit:]-]",
        r"\d\D\w\W\s\S\b\B\A\z",
        r"[\d\s.]",
        r"\.\*\/\-\x41\x{1F600}\n",
        r"\pL\p{Greek}\P{Lu}[\pN]",
        "ä/✓",
        "(a{30}){30}",
    ],
)
def test_what_re2_reads(pattern: str) -> None:
    assert refusal(pattern) is None


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(?=a)", "lookahead"),
        ("(?!a)", "lookahead"),
        ("(?<=a)", "lookbehind"),
        ("(?<!a)", "lookbehind"),
        ("(?>a)", "atomic"),
        ("(?#a)", "comment"),
        ("(?P=n)", "begins no group"),
        ("(?)", "begins no group"),
        ("(?x)a", "begins no group"),
        (r"(a)\1", "backreferences"),
        ("a++", "possessive"),
        ("a**", "two repeats"),
        ("*a", "nothing to repeat"),
        ("a|+", "nothing to repeat"),
        ("{2}", "nothing to repeat"),
        ("a(?i)*", "nothing to repeat"),
        ("(a", "never closed"),
        ("a)", 'a ")" without'),
        ("[a", "never closed"),
        ("[z-a]", "backwards"),
        ("[a-c-e]", "stands first, last"),
        (r"[\d-z]", "backwards"),
        ("[[:foo:]]", "unknown class"),
        ("a{3,2}", "no valid repeat"),
        ("a{1001}", "no valid repeat"),
        ("(a{100}){100}", "one inside the other"),
        (r"\p{L}{1000}", "too large"),
        ("(.{1000})" * 50, "too large"),
        ("a\\", "no escape"),
        (r"\Z", "no escape"),
        (r"\C", "no escape"),
        (r"\Qa\E", "no escape"),
        (r"\x{110000}", "no character"),
        (r"\p{Klingon}", "no class"),
        ("(?P<a>x)(?P<a>y)", "two groups"),
        ("(" * 60 + ")" * 60, "too many groups"),
        ("a" * 1025, "1025 characters"),
    ],
)
def test_what_re2_refuses(pattern: str, reason: str) -> None:
    assert reason in (refusal(pattern) or "accepted")


@given(st.text(alphabet="ab01*+?{},()[]|\\^$.-:dPLxn<>=!i ", max_size=20))
def test_what_is_accepted_compiles_without_backtracking(pattern: str) -> None:
    """Rust's regex crate has RE2's syntax but for some escapes and nested classes."""
    if refusal(pattern) is not None or _reads_differently(pattern):
        return
    options = jsonschema_rs.RegexOptions()
    jsonschema_rs.Draft202012Validator({"pattern": pattern}, pattern_options=options)


def _reads_differently(pattern: str) -> bool:
    """Rust: classes nest and have operators, a lone brace is an error, ECMA escapes."""
    return any(sign in pattern for sign in ("[", "{", "}", "]", "\\", "(?"))
