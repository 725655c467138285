"""How two versions of a document differ, field by field."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

JSON = None | bool | int | float | str | list["JSON"] | dict[str, "JSON"]


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A field's two values as compact JSON text; None is "not there"."""

    path: str
    before: str | None
    after: str | None


def field_changes(before: bytes, after: bytes) -> tuple[FieldChange, ...]:
    """The smallest fields that differ between two canonical documents, in document order.

    Items of a list are told apart by their `name` where every item has its own, else by place.
    """
    return tuple(_compare("", json.loads(before), json.loads(after)))


def _compare(path: str, before: JSON, after: JSON) -> Iterator[FieldChange]:
    if isinstance(before, dict) and isinstance(after, dict):
        yield from _compare_items(path, before, after, ".{}")
    elif isinstance(before, list) and isinstance(after, list):
        named_before, named_after = _by_name(before), _by_name(after)
        if named_before is None or named_after is None:
            named_before = {str(place): item for place, item in enumerate(before)}
            named_after = {str(place): item for place, item in enumerate(after)}
        elif list(named_before) != list(named_after) and set(named_before) == set(named_after):
            yield FieldChange(path, _text(list(named_before)), _text(list(named_after)))
        yield from _compare_items(path, named_before, named_after, "[{}]")
    elif before != after or type(before) is not type(after):
        yield FieldChange(path, _text(before), _text(after))


def _compare_items(
    path: str, before: dict[str, JSON], after: dict[str, JSON], step: str
) -> Iterator[FieldChange]:
    for name in [*before, *(name for name in after if name not in before)]:
        inner = (path + step.format(name)).removeprefix(".")
        if name not in before:
            yield FieldChange(inner, None, _text(after[name]))
        elif name not in after:
            yield FieldChange(inner, _text(before[name]), None)
        else:
            yield from _compare(inner, before[name], after[name])


def _by_name(items: list[JSON]) -> dict[str, JSON] | None:
    """The items by name, if each has one of its own."""
    found: dict[str, JSON] = {}
    for item in items:
        name = item.get("name") if isinstance(item, dict) else None
        if not isinstance(name, str) or name in found:
            return None
        found[name] = item
    return found


def _text(value: JSON) -> str:
    return json.dumps(value, separators=(", ", ": "), ensure_ascii=False)
