"""The front end as a whole: order, completeness, and no surprise from any input."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.documents.codec import decode
from mesh.documents.front_end import front_end
from mesh.documents.parser import SourceText
from tests.support.documents import ROOT, SERVICES, check, found, route


def _texts() -> list[bytes]:
    return [file.read_bytes() for file in sorted((ROOT / "policies").rglob("*.yaml"))]


def test_all_mistakes_of_a_set_come_in_one_run_sorted_by_place() -> None:
    broken = """\
apiVersion: mesh/v1
kind: Service
metadata: {name: api}
spec: {protocol: htp, prot: 80}
---
apiVersion: mesh/v1
kind: Servise
---
a: 'open
"""
    other = route("[{backendRefs: [{name: nope, port: 80}]}, {matches: [{path: {value: a}}]}]")
    second = route("[{backendRefs: [{name: nope, port: 80}]}]").replace(
        "{name: api}\n", "{name: b}\n"
    )
    assert found(broken, other, second) == [
        ("a.yaml:4:18", "unknown-value"),
        ("a.yaml:4:23", "unknown-field"),
        ("a.yaml:7:7", "unknown-kind"),
        ("a.yaml:9:4", "yaml-syntax"),
        ("b.yaml:8:33", "unknown-backend"),
        ("b.yaml:8:78", "bad-format"),
        ("c.yaml:8:33", "unknown-backend"),
    ]


def test_nothing_is_a_valid_set() -> None:
    result = front_end([SourceText("empty.yaml", b""), SourceText("c.yaml", b"# nothing\n")])
    assert (result.policies, result.diagnostics, result.documents) == ((), (), 0)


def test_policies_come_sorted_whatever_the_order_of_the_files() -> None:
    files = sorted((ROOT / "policies" / "shop").glob("*.yaml"))
    sources = [SourceText(file.name, file.read_bytes()) for file in files]
    forward, backward = front_end(sources), front_end(sources[::-1])
    assert [item.key for item in forward.policies] == [item.key for item in backward.policies]
    assert [item.digest for item in forward.policies] == [item.digest for item in backward.policies]


def test_a_place_is_that_of_the_document() -> None:
    result = check("# head\n---\n# c\n" + SERVICES)
    assert [(item.key.name, item.position.line) for item in result.policies] == [
        ("api", 5),
        ("api-v2", 15),
        ("ledger", 10),
    ]


_SNIPPETS = (
    *(b"&a ", b"*a", b"!!x ", b"\t", b"\x00", b"\xff", b"[", b"{", b"}", b"'", b'"', b": ", b"- "),
    *(b"\n---\n", b"null", b"99999999999999999999", b".inf", b"kind: Service\n", b"?", b"|\n"),
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(_texts()), st.randoms(use_true_random=False))
def test_any_mutation_is_accepted_or_explained(text: bytes, chance: random.Random) -> None:
    """Never a traceback: cut, doubled, swapped and foreign pieces anywhere."""
    data = bytearray(text)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data))
        end = min(len(data), at + chance.randint(0, 30))
        piece = chance.choice([b"", chance.choice(_SNIPPETS), bytes(data[at:end]) * 2])
        data[at:end] = piece
        if not data:
            data += b"a"
    result = front_end([SourceText("a.yaml", bytes(data))])
    for parsed in result.policies:
        assert decode(parsed.canonical, parsed.digest) == parsed.policy
    for item in result.diagnostics:
        assert item.position.file == "a.yaml"
        assert item.message
        assert str(item)
