"""What was made of a piece of JSON last time, so that a change costs what it changes."""

from collections.abc import Callable, Hashable
from typing import TypeVar, cast

from mesh.compiler.generated import JSON

T = TypeVar("T")


class Memory:
    """Results by key, each good for the JSON that it was made of. Holds the newest round's only.

    The JSON is kept and compared: nobody may change it afterwards.
    """

    def __init__(self) -> None:
        self._before: dict[Hashable, tuple[JSON, object]] = {}
        self._now: dict[Hashable, tuple[JSON, object]] = {}

    def turn(self) -> None:
        """Begin a round: what the last one did not ask for is forgotten."""
        self._before, self._now = self._now, {}

    def of(self, key: Hashable, content: JSON, make: Callable[[], T]) -> T:
        """What `make` gives for `content`; what it gave where `key` had equal content before."""
        known = self._before.get(key)
        if known is None or known[0] != content:
            known = (content, make())
        self._now[key] = known
        return cast("T", known[1])
