"""A manifest becomes parts and a record, and comes back whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import Corrupted, InputError
from mesh.model.revision import Manifest
from mesh.planning.manifest import (
    BATCH_BYTES,
    BATCH_OPERATIONS,
    CHUNK_BYTES,
    Part,
    assemble,
    batches,
    missing,
    parse_part,
    parse_record,
    used,
    write,
)
from tests.support.planning import entry, manifest, namespaces, revision

MIB = 1024 * 1024

names = st.from_regex(r"[a-z][a-z0-9]{0,3}", fullmatch=True)
targets = st.lists(
    st.sampled_from(["default/api", "ExternalService/shop/db", "Namespace/shop", "Mesh"]),
    max_size=3,
)


@st.composite
def entries(draw: st.DrawFn):
    kind = draw(st.sampled_from(["Service", "HTTPRoute", "Mesh"]))
    return entry(
        f"{kind}/{draw(names)}/{draw(names)}",
        on=draw(targets),
        uses=draw(targets),
        admits=draw(targets),
        file=draw(st.text(max_size=20)),
        line=draw(st.integers(1, 10**6)),
        introduced=draw(st.integers(1, 10**6)),
    )


manifests = st.lists(entries(), max_size=30).map(lambda items: manifest(*items))


def read_back(given: Manifest, change: str = "c1") -> Manifest:
    """What a reader with nothing gets, fetching only what it is told to."""
    written = write(given, revision(), change)
    head = parse_record(written.record)
    parts: dict[str, Part] = {}
    while lacking := missing(head, parts):
        for digest in lacking:
            parts[digest] = parse_part(digest, written.parts[digest])
    assert used(head, parts) == written.parts.keys()
    return assemble(head, parts)


@given(manifests)
def test_what_is_written_is_read(given: Manifest):
    assert read_back(given) == given


@given(manifests, st.randoms())
def test_equal_manifests_have_equal_bytes(given: Manifest, random):
    shuffled = list(given.items())
    random.shuffle(shuffled)
    assert write(given, revision(), "c") == write(dict(shuffled), revision(), "c")


def test_the_empty_manifest_has_no_parts():
    written = write({}, revision(), "c")
    assert written.parts == {}
    assert read_back({}) == {}


def test_the_record_keeps_the_revision_and_the_change():
    head = parse_record(write({}, revision(7, message="grüße", commit="abc"), "c7").record)
    assert head.revision == revision(7, message="grüße", commit="abc")
    assert head.change == "c7"


def test_a_record_of_ten_thousand_documents_in_a_thousand_namespaces_stays_small():
    kinds = ("Service", "HTTPRoute", "TrafficPolicy", "AccessPolicy")
    given = manifest(
        *(
            entry(f"{kinds[number % 4]}/{namespace}/document-{number}", on=["default/api"])
            for namespace in namespaces(1000)
            for number in range(10)
        )
    )
    written = write(given, revision(), "c")
    assert len(written.record) < MIB / 4
    assert all(len(part) <= CHUNK_BYTES for part in written.parts.values())
    assert read_back(given) == given


def test_one_namespace_of_ten_thousand_documents_is_split():
    given = manifest(*(entry(f"Service/default/s{number}") for number in range(10_000)))
    written = write(given, revision(), "c")
    assert len(written.parts) > 1
    assert all(len(part) <= CHUNK_BYTES for part in written.parts.values())
    assert read_back(given) == given


def test_one_more_document_rewrites_one_chunk():
    many = [entry(f"Service/default/s{number}") for number in range(10_000)]
    before = write(manifest(*many), revision(), "c").parts
    after = write(manifest(*many, entry("Service/default/another")), revision(), "c").parts
    assert len(after.keys() - before.keys()) == 1


def test_a_change_in_one_namespace_leaves_most_indexes_alone():
    many = [entry(f"Service/{namespace}/api") for namespace in namespaces(2000)]
    before = write(manifest(*many), revision(), "c").parts
    after = write(manifest(*many, entry("HTTPRoute/ns7/one")), revision(), "c").parts
    assert len(after.keys() - before.keys()) == 2  # its chunk and one index


def test_a_damaged_part_is_told():
    written = write(manifest(entry("Service/default/api")), revision(), "c")
    digest, data = next(iter(written.parts.items()))
    with pytest.raises(Corrupted, match=digest):
        parse_part(digest, data.replace(b"api", b"apo"))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"change":"c","revision":{}}'])
def test_a_damaged_record_is_told(data: bytes):
    with pytest.raises(Corrupted):
        parse_record(data)


def test_a_document_that_names_too_much_is_refused_with_the_reason():
    huge = entry("HTTPRoute/default/r", uses=[f"default/s{number:050}" for number in range(20_000)])
    with pytest.raises(InputError, match="refers to"):
        write(manifest(huge), revision(), "c")


@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=8), st.integers(0, 400_000), max_size=300)
)
def test_batches_hold_everything_once_within_the_limits(sizes: dict[str, int]):
    writes = {name: bytes(size) for name, size in list(sizes.items())[:12]}
    writes |= dict.fromkeys(sizes, b"x")
    found: dict[str, bytes] = {}
    for batch in batches(writes):
        assert len(batch) <= BATCH_OPERATIONS
        assert sum(len(name) + len(value) for name, value in batch.items()) <= BATCH_BYTES
        assert not found.keys() & batch.keys()
        found |= batch
    assert found == writes


def test_batches_use_their_room():
    assert len(list(batches({f"k{number}": b"" for number in range(121)}))) == 2


def test_a_value_larger_than_a_request_is_refused_with_the_reason():
    with pytest.raises(InputError, match="3145734"):
        list(batches({"object": bytes(3 * MIB)}))
