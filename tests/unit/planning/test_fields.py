"""How two versions of a document differ."""

import json

import pytest

from mesh.planning.fields import FieldChange, field_changes


def changes(before: object, after: object) -> list[tuple[str, str | None, str | None]]:
    found = field_changes(json.dumps(before).encode(), json.dumps(after).encode())
    return [(item.path, item.before, item.after) for item in found]


def test_equal_documents_do_not_differ():
    assert changes({"a": [1, {"b": None}]}, {"a": [1, {"b": None}]}) == []


def test_a_value_a_new_and_a_gone_field_are_told():
    assert changes({"a": 1, "b": 2}, {"a": 3, "c": "x"}) == [
        ("a", "1", "3"),
        ("b", "2", None),
        ("c", None, '"x"'),
    ]


def test_nested_fields_have_their_path():
    assert changes({"spec": {"t": {"connect": "1s"}}}, {"spec": {"t": {"connect": "2s"}}}) == [
        ("spec.t.connect", '"1s"', '"2s"')
    ]


def test_items_with_names_are_matched_by_name():
    before = {"refs": [{"name": "a", "weight": 90}, {"name": "b", "weight": 10}]}
    after = {"refs": [{"name": "c", "weight": 1}, {"name": "a", "weight": 50}]}
    assert changes(before, after) == [
        ("refs[a].weight", "90", "50"),
        ("refs[b]", '{"name": "b", "weight": 10}', None),
        ("refs[c]", None, '{"name": "c", "weight": 1}'),
    ]


def test_another_order_of_named_items_is_a_change():
    before, after = [{"name": "a"}, {"name": "b"}], [{"name": "b"}, {"name": "a"}]
    assert changes({"rules": before}, {"rules": after}) == [("rules", '["a", "b"]', '["b", "a"]')]


def test_items_without_names_are_matched_by_place():
    assert changes({"m": ["GET"]}, {"m": ["GET", "POST"]}) == [("m[1]", None, '"POST"')]


@pytest.mark.parametrize(("before", "after"), [(True, 1), (1, 1.5), ({}, []), (None, {})])
def test_another_type_is_a_change(before: object, after: object):
    assert changes({"a": before}, {"a": after}) == [("a", json.dumps(before), json.dumps(after))]


def test_a_change_is_a_value():
    assert field_changes(b'{"a":1}', b'{"a":2}') == (FieldChange("a", "1", "2"),)
