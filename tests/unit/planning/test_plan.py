"""Plans: what a set would do, bound to a base."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import InvalidDocuments
from mesh.planning.plan import Act, Plan, between, carry_out, detail, diff, restore
from tests.support.planning import canonical, desired, digest, entry, key, manifest, wanted

names = st.sampled_from([f"Service/default/s{number}" for number in range(8)])
contents = st.sampled_from(["", "x", "y"])
sets = st.dictionaries(names, contents)


def plan(current, want, source: str = "main", base: int = 3) -> Plan:
    return diff(current, want, base=base, change="c", source=source)


def as_manifest(documents: dict[str, str], source: str = "main"):
    return manifest(*(entry(n, content=c, source=source) for n, c in documents.items()))


@given(sets, sets)
def test_carrying_out_the_difference_gives_the_desired_set(before, after):
    current = as_manifest(before)
    want = wanted(*(desired(name, content) for name, content in after.items()))
    result = carry_out(current, plan(current, want))
    assert {item.key: item.digest for item in result.values()} == {
        item.key: item.digest for item in want.values()
    }


@given(sets, sets)
def test_changes_between_two_manifests_lead_from_one_to_the_other(before, after):
    old, new = as_manifest(before), as_manifest(after)
    restored = restore(old, new, base=1, change="c", source=None)
    assert carry_out(old, restored) == new
    assert between(old, new) == restored.changes


@given(sets, sets)
def test_another_source_is_left_alone(mine, theirs):
    theirs = {name: content for name, content in theirs.items() if name not in mine}
    current = as_manifest(theirs, source="other")
    want = wanted(*(desired(name, content) for name, content in mine.items()))
    result = carry_out(current, plan(current, want))
    assert {k: v for k, v in result.items() if v.source == "other"} == current


def test_acts_are_create_update_delete_in_that_order():
    current = manifest(entry("Service/default/a"), entry("Service/default/b"))
    want = wanted(desired("Service/default/b", "new"), desired("Service/default/c"))
    found = plan(current, want)
    assert [(change.act, change.key.name) for change in found.changes] == [
        (Act.CREATE, "c"),
        (Act.UPDATE, "b"),
        (Act.DELETE, "a"),
    ]
    assert found.count(Act.UPDATE) == 1
    assert found.objects.keys() == {item.digest for item in want.values()}


def test_a_created_document_is_as_old_as_the_next_revision_and_an_updated_keeps_its_age():
    current = manifest(entry("Service/default/a", introduced=2))
    want = wanted(desired("Service/default/a", "new"), desired("Service/default/b"))
    after = carry_out(current, plan(current, want, base=6))
    assert after[key("Service/default/a")].introduced == 2
    assert after[key("Service/default/b")].introduced == 7


def test_a_moved_document_is_no_change_and_rides_along():
    current = manifest(entry("Service/default/a", file="old.yaml", line=1))
    found = plan(current, wanted(desired("Service/default/a", file="new.yaml", line=9)))
    assert found.changes == ()
    assert carry_out(current, found)[key("Service/default/a")].position.line == 9


def test_a_document_of_another_source_is_refused_with_its_owner_and_both_places():
    current = manifest(entry("Service/default/a", source="shop", file="shop.yaml", line=4))
    with pytest.raises(InvalidDocuments) as caught:
        plan(current, wanted(desired("Service/default/a", file="mine.yaml", line=2)))
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "owned-elsewhere"
    assert str(diagnostic.position) == "mine.yaml:2:1"
    assert '"shop"' in diagnostic.message
    assert str(diagnostic.related[0][0]) == "shop.yaml:4:1"


def test_restoring_brings_back_ages_and_places():
    past = manifest(entry("Service/default/a", introduced=2, line=7))
    found = restore({}, past, base=9, change="c", source=None)
    assert carry_out({}, found) == past


def test_another_age_alone_is_a_change_that_says_so():
    past = manifest(entry("Service/default/a", introduced=2))
    current = manifest(entry("Service/default/a", introduced=5, line=7))
    found = restore(current, past, base=9, change="c", source=None)
    (change,) = detail(found.changes, {})
    assert change.act is Act.UPDATE
    assert [(item.path, item.before, item.after) for item in change.fields] == [
        ("since revision", "5", "2")
    ]
    assert carry_out(current, found) == past


def test_restoring_one_source_leaves_the_others():
    theirs = entry("Service/default/b", source="other", content="now")
    past = manifest(
        entry("Service/default/a"), entry("Service/default/b", source="other", content="then")
    )
    current = manifest(entry("Service/default/a", content="now"), theirs)
    after = carry_out(current, restore(current, past, base=9, change="c", source="main"))
    assert after[theirs.key] == theirs
    assert after[key("Service/default/a")] == past[key("Service/default/a")]


def test_restoring_a_document_that_another_source_took_over_is_refused():
    past = manifest(entry("Service/default/a"))
    current = manifest(entry("Service/default/a", source="other"))
    with pytest.raises(InvalidDocuments):
        restore(current, past, base=9, change="c", source="main")


def test_detail_tells_the_fields_of_an_update_only():
    current = manifest(entry("Service/default/a", content="old"))
    want = wanted(desired("Service/default/a", "new"), desired("Service/default/b"))
    objects = {
        digest(data): data
        for data in (
            canonical("Service/default/a", "old"),
            canonical("Service/default/a", "new"),
            canonical("Service/default/b"),
        )
    }
    created, updated = detail(plan(current, want).changes, objects)
    assert created.fields == ()
    (field,) = updated.fields
    assert (field.path, field.before, field.after) == ("spec.content", '"old"', '"new"')
