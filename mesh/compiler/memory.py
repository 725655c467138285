"""What was made of a value last time, so that a change costs what it changes."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TypeVar, cast

T = TypeVar("T")


@dataclass(slots=True)
class _Known:
    value: object
    result: object
    parts: "Memory | None" = None

    def is_of(self, value: object) -> bool:
        return self.value is value or self.value == value


class Memory:
    """Results by key, each good for the value that it was made of. Holds the newest round's only.

    The value is kept and compared: nobody may change it afterwards. A result that is equal to the
    one before is the one before, so that what is made of it in turn is found by identity.
    """

    __slots__ = ("_before", "_now")

    def __init__(self) -> None:
        self._before: dict[Hashable, _Known] = {}
        self._now: dict[Hashable, _Known] = {}

    def turn(self) -> None:
        """Begin a round: what the last one did not ask for is forgotten."""
        self._before, self._now = self._now, {}

    def of(self, key: Hashable, value: object, make: Callable[[], T]) -> T:
        """What `make` gives of `value`; what it gave where `key` had an equal one before."""
        known = self._before.get(key)
        if known is None or not known.is_of(value):
            known = _Known(value, _kept(known, make()))
        self._now[key] = known
        return cast("T", known.result)

    def of_parts(self, key: Hashable, value: object, make: Callable[["Memory"], T]) -> T:
        """The same for what is made in parts: `make` is given the memory of these, which stay
        while the whole does.
        """
        known = self._before.get(key)
        if known is None or not known.is_of(value):
            parts = known.parts if known and known.parts else Memory()
            parts.turn()
            known = _Known(value, _kept(known, make(parts)), parts)
        self._now[key] = known
        return cast("T", known.result)


def _kept(known: _Known | None, result: T) -> T:
    if known is not None and known.result == result:
        return known.result
    return result
