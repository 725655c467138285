"""YAML texts become documents; what cannot be read is refused at its place."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.diagnostics import Position
from mesh.documents.composer import MAX_DEPTH
from mesh.documents.parser import (
    MAX_DOCUMENT_BYTES,
    MAX_DOCUMENTS,
    MAX_FILE_BYTES,
    SourceText,
    parse,
)


def read(data: bytes) -> list[dict[str, object]]:
    result = parse([SourceText("a.yaml", data)])
    assert result.diagnostics == ()
    return [dict(document.data) for document in result.documents]


def refused(data: bytes) -> list[tuple[str, str]]:
    result = parse([SourceText("a.yaml", data)])
    return [(str(item.position), item.code) for item in result.diagnostics]


@pytest.mark.parametrize(
    "text",
    ["", "# only a comment\n", "---\n", "---\n---\n", "\n\n", "...\n", "%YAML 1.2\n---\n", "~"],
)
def test_nothing_in_a_text_is_no_document(text: str) -> None:
    assert read(text.encode()) == []


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("no", "no"),
        ("off", "off"),
        ("Yes", "Yes"),
        ("2026-01-01", "2026-01-01"),
        ("12:30:45", "12:30:45"),
        ("0o17", 15),
        ("0x1F", 31),
        ("017", 17),
        ("-3", -3),
        ("1e3", 1000),
        ("1.0", 1),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1_000", "1_000"),
        ("0b1", "0b1"),
        ("~", None),
        ("", None),
        ("Null", None),
        ("True", True),
        ("false", False),
        ('"80"', "80"),
        ("'~'", "~"),
        ("|-\n  a\n  b", "a\nb"),
        ("<<", "<<"),
        ("+", "+"),
        ("-", [None]),
        (".", "."),
    ],
)
def test_scalars_are_those_of_yaml_1_2(written: str, meant: object) -> None:
    text = f"a:\n  {written}\n" if written == "-" else f"a: {written}\n"
    assert read(text.encode()) == [{"a": meant}]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\n---\nb: 2\n", [{"a": 1}, {"b": 2}]),
        ("--- {a: 1}\n--- # second\nb: 2\n", [{"a": 1}, {"b": 2}]),
        ("a: 1\n...\n# between\n---\nb: 2\n...\n", [{"a": 1}, {"b": 2}]),
        ("%YAML 1.2\n---\na: 1\n", [{"a": 1}]),
        ("# a comment\n%YAML 1.2\n---\na: 1\n", [{"a": 1}]),
        ("a: 1\r\n---\r\nb: 2\r\n", [{"a": 1}, {"b": 2}]),
        ("a: 1\r---\rb: 2\r", [{"a": 1}, {"b": 2}]),
        ("\ufeffa: 1\n", [{"a": 1}]),
        ("a: |\n  ---\n  text\n", [{"a": "---\ntext\n"}]),
        ("a: x---\n---\nb: ---x\n", [{"a": "x---"}, {"b": "---x"}]),
    ],
)
def test_a_text_is_split_into_its_documents(text: str, expected: list[object]) -> None:
    assert read(text.encode()) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a: &x 1\nb: *x\n", [("1:4", "anchors-refused"), ("2:4", "aliases-refused")]),
        (b"&k a: 1\n", [("1:1", "anchors-refused")]),
        (b"a: !!str 1\nb: !x [1]\n", [("1:4", "tags-refused"), ("2:4", "tags-refused")]),
        (b"a: 1\nb: {c: 1, c: 2}\na: 3\n", [("2:11", "duplicate-key"), ("3:1", "duplicate-key")]),
        (b"80: x\n? [1]\n: y\n", [("1:1", "key-not-text"), ("2:3", "key-not-text")]),
        (b"a: .nan\nb: -.inf\nc: 1e999\n", [(f"{n}:4", "bad-number") for n in (1, 2, 3)]),
        (b"a: " + b"9" * 5000, [("1:4", "bad-number")]),
        (b"- 1\n---\ntext\n", [("1:1", "not-a-document"), ("3:1", "not-a-document")]),
        (b"a: 'open\nb: 1\n", [("1:4", "yaml-syntax")]),
        (b"a:\n\t- 1\n", [("2:1", "yaml-syntax")]),
        (b"%YAML 1.3\n---\na: 1\n", [("1:1", "yaml-syntax")]),
        (b"a: [1\n---\nb: ]\n", [("2:1", "yaml-syntax"), ("3:4", "yaml-syntax")]),
        (b"a: \x01\n", [("1:1", "yaml-syntax")]),
        (b"a: \0", [("1:4", "binary-file")]),
        (b"\x7fELF\0\0", [("1:5", "binary-file")]),
        (b"b: x\na: \xc3\xa4\xff", [("2:5", "not-utf8")]),
        ("a: 1".encode("utf-16"), [("1:1", "not-utf8")]),
        (b"[" * 30_000, [("1:65", "too-deep")]),
        (b"{a: " * 30_000, [("1:257", "too-deep")]),
        (b"- " * 30_000, [("1:129", "too-deep")]),
        (b"? " * 30_000, [("1:3", "key-not-text")]),
    ],
)
def test_a_refusal_names_its_place(data: bytes, expected: list[tuple[str, str]]) -> None:
    assert refused(data) == [(f"a.yaml:{place}", code) for place, code in expected]


def test_a_broken_document_does_not_hide_the_next_one() -> None:
    result = parse([SourceText("a.yaml", b"a: 'x\n---\nb: 1\n---\n- c\n")])
    assert [document.data for document in result.documents] == [{"b": 1}]
    assert [item.position.line for item in result.diagnostics] == [1, 5]


def test_columns_count_characters() -> None:
    text = 'ä: {name: "ö", name: 1}\n'
    assert refused(text.encode()) == [("a.yaml:1:16", "duplicate-key")]


def test_a_duplicate_key_shows_both_places() -> None:
    (item,) = parse([SourceText("a.yaml", b"# top\na: 1\nb: 2\na: 3\n")]).diagnostics
    assert item.position == Position("a.yaml", 4, 1)
    assert item.related == ((Position("a.yaml", 2, 1), "first written here"),)


def test_depth_is_allowed_up_to_its_bound() -> None:
    deepest = b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1)
    assert refused(b"a: " + deepest) == []
    assert refused(b"a: [" + deepest + b"]") == [("a.yaml:1:67", "too-deep")]
    brackets = b"a: '" + b"[" * 500 + b"'  # " + b"[" * 500 + b"\nb: |\n  " + b"{" * 500 + b"\n"
    assert refused(brackets) == []


def test_an_alias_bomb_is_refused_without_expanding() -> None:
    levels = [b"a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [b"a%d: &a%d [%s]" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 9)]
    found = {code for _, code in refused(b"\n".join(levels))}
    assert found == {"anchors-refused", "aliases-refused"}


def test_sizes_are_bounded() -> None:
    document = b"a: '" + b"x" * MAX_DOCUMENT_BYTES + b"'\n"
    assert refused(document) == [("a.yaml:1:1", "document-too-large")]
    assert refused(b"a: 1\n---\n" + document) == [("a.yaml:2:1", "document-too-large")]
    assert refused(b" " * (MAX_FILE_BYTES + 1)) == [("a.yaml:1:1", "file-too-large")]


def test_the_number_of_documents_is_bounded() -> None:
    half = b"--- {}\n" * (MAX_DOCUMENTS // 2 + 1)
    result = parse([SourceText("a.yaml", half), SourceText("b.yaml", half)])
    assert [item.code for item in result.diagnostics] == ["too-many-documents"]


def test_places_are_found_for_keys_and_values() -> None:
    text = b"---\n# c\nspec:\n  rules:\n    - name: one\n    - {name: two}\n"
    (document,) = parse([SourceText("a.yaml", text)]).documents
    path = ("spec", "rules", 1, "name")
    assert document.position == Position("a.yaml", 3)
    assert document.place(path) == Position("a.yaml", 6, 14)
    assert document.key_place(path) == Position("a.yaml", 6, 8)
    assert document.place((*path, "not", "there")) == document.place(path)
    assert document.raw(path) == "two"


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    result = parse([SourceText("a.yaml", data)])
    lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").count(b"\n") + 1
    for item in result.diagnostics:
        # NEL, LS and PS are line breaks to libyaml.
        extra = data.count(b"\x85") + data.count(b"\xe2\x80")
        assert 1 <= item.position.line <= lines + 1 + extra
    for document in result.documents:
        assert document.place(("a",)).line >= document.first_line


@given(st.text(alphabet="ab:-[]{},&*!|>'\"#%@? \n\t0.~", max_size=80))
def test_any_yaml_like_text_is_read_or_refused(text: str) -> None:
    parse([SourceText("a.yaml", text.encode())])


@pytest.mark.parametrize(
    "data",
    [b"[a," * 300_000, b"a: [" + b"{b: c}, " * 100_000 + b"]", b"a:\n" + b" - b\n" * 200_000],
)
def test_a_large_text_takes_bounded_time(data: bytes) -> None:
    start = time.process_time()
    parse([SourceText("a.yaml", data)])
    assert time.process_time() - start < 10
