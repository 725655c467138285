"""Typed reading of documents whose schema holds: nothing is checked twice."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import cast

from mesh.documents.values import Value

Object = Mapping[str, Value]

_PART = re.compile(r"([0-9]+)(ms|s|m|h)")
_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
_EMPTY: Object = {}


def section(data: Object, name: str) -> Object:
    """The mapping at `name`; empty if it is not there."""
    return cast("Object", data.get(name) or _EMPTY)


def items(data: Object, name: str) -> list[Object]:
    """The list of mappings at `name`; empty if it is not there."""
    return cast("list[Object]", data.get(name) or [])


def texts(data: Object, name: str) -> tuple[str, ...]:
    """The list of texts at `name`; empty if it is not there."""
    return tuple(cast("list[str]", data.get(name) or []))


def integers(data: Object, name: str) -> tuple[int, ...]:
    """The list of whole numbers at `name`; empty if it is not there."""
    return tuple(cast("list[int]", data.get(name) or []))


def text(data: Object, name: str, default: str = "") -> str:
    """The text at `name`."""
    return cast("str", data.get(name, default))


def optional_text(data: Object, name: str) -> str | None:
    """The text at `name`; None if it is not there."""
    return cast("str | None", data.get(name))


def integer(data: Object, name: str, default: int = 0) -> int:
    """The whole number at `name`."""
    return cast("int", data.get(name, default))


def optional_integer(data: Object, name: str) -> int | None:
    """The whole number at `name`; None if it is not there."""
    return cast("int | None", data.get(name))


def number(data: Object, name: str, default: float) -> float:
    """The number at `name`."""
    return float(cast("float", data.get(name, default)))


def duration(data: Object, name: str) -> timedelta | None:
    """The duration at `name`; None if it is not there."""
    value = data.get(name)
    return None if value is None else span(cast("str", value))


def duration_or(data: Object, name: str, default: timedelta) -> timedelta:
    """The duration at `name`, else `default`."""
    value = duration(data, name)
    return default if value is None else value


def span(value: str) -> timedelta:
    """A duration of Gateway API (GEP-2257), such as `1h30m` or `250ms`."""
    total = sum(int(count) * _MILLISECONDS[unit] for count, unit in _PART.findall(value))
    return timedelta(milliseconds=total)
