"""What was made of a value last time, so that a change costs what it changes."""

from collections.abc import Callable, Hashable
from typing import TypeVar, cast

T = TypeVar("T")


class Memory:
    """Results by key, each good for the value that it was made of. Holds the newest round's only.

    The value is kept and compared: nobody may change it afterwards.
    """

    def __init__(self) -> None:
        self._before: dict[Hashable, tuple[object, object]] = {}
        self._now: dict[Hashable, tuple[object, object]] = {}

    def turn(self) -> None:
        """Begin a round: what the last one did not ask for is forgotten."""
        self._before, self._now = self._now, {}

    def of(self, key: Hashable, value: object, make: Callable[[], T]) -> T:
        """What `make` gives of `value`; what it gave where `key` had an equal one before."""
        known = self._before.get(key)
        if known is None or (known[0] is not value and known[0] != value):
            known = (value, make())
        self._now[key] = known
        return cast("T", known[1])
