"""One mistake in a document does not hide its others, and is not told twice."""

import pytest

from tests.support.documents import SERVICES, access, codes, pointed, route, together, traffic

MIRROR = "filters: [{type: RequestMirror, requestMirror: {backendRef: {name: x, port: 80}}}]"


def test_what_is_not_supported_hides_neither_rules_nor_references() -> None:
    backends = "backendRefs: [{name: nope, port: 80}]"
    rules = f"[{{matches: [{{path: {{value: foo}}}}], {MIRROR}, {backends}}}]"
    assert pointed(together(SERVICES, route(rules))) == [
        ("foo", "bad-format"),
        ("RequestMirror", "not-supported-yet"),
        ("nope", "unknown-backend"),
    ]


def test_a_broken_rule_does_not_hide_a_dangling_reference() -> None:
    rules = "[{matches: [{path: {value: foo}}], backendRefs: [{name: nope, port: 80}]}]"
    assert codes(together(SERVICES, route(rules))) == ["bad-format", "unknown-backend"]


def test_places_are_those_of_the_whole_document() -> None:
    rules = (
        "[{backendRefs: [{port: 80}, {name: api, port: 1}]}, 7, "
        "{matches: [{path: 1}, {path: {value: b}}]}]"
    )
    assert pointed(together(SERVICES, route(rules))) == [
        ("{port: 80", "missing-field"),
        ("1", "unknown-port"),
        ("7", "wrong-type"),
        ("1", "wrong-type"),
        ("b", "bad-format"),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # "retry" needs "on", which is there, misspelt.
        (traffic("retry: {attempts: 1, onn: [reset]}"), ["unknown-field"]),
        # The default of base is longer than max, but base is given.
        (traffic("retry: {attempts: 1, on: [5xx], backoff: {base: 5, max: 10ms}}"), ["wrong-type"]),
        # The backend may be in the namespace that is misspelt.
        (route("[{backendRefs: [{name: nope, namspace: x, port: 80}]}]"), ["unknown-field"]),
        (route("[{backendRefs: [{name: api, port: 80}]}]", "parentRef: []"), ["unknown-field"]),
        # Without its namespace nobody knows what a document names.
        (
            access("[{name: a, action: allow}]", "{kind: Service, name: nope}", namespace="No"),
            ["bad-format"],
        ),
    ],
)
def test_what_follows_from_a_mistake_is_not_told(text: str, expected: list[str]) -> None:
    assert codes(together(SERVICES, text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (traffic("rety: {}", target="nope"), ["unknown-target", "unknown-field"]),
        (
            access("[{name: a, action: alow}]", "{kind: Service, name: nope}"),
            ["unknown-target", "unknown-value"],
        ),
        (
            "apiVersion: mesh/v1\nkind: Service\nmetadata: {name: web}\n"
            "spec: {protocol: http, dependencies: [nope], prot: 1}\n",
            ["unknown-service", "unknown-field"],
        ),
    ],
)
def test_references_of_every_kind_are_checked_beside_mistakes(
    text: str, expected: list[str]
) -> None:
    assert codes(together(SERVICES, text)) == expected


def test_a_document_with_mistakes_is_no_reference_for_others() -> None:
    """Its port is not known, so nobody is told that it has another one."""
    head = "apiVersion: mesh/v1\nkind: Service\nmetadata: {name: web}\n"
    broken = head + "spec: {protocol: http, port: x}\n"
    assert codes(together(SERVICES, broken, route("[{backendRefs: [{name: web, port: 8}]}]"))) == [
        "wrong-type"
    ]
