"""Trying again: with jitter, with a cap, and without filling the log."""

import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

import structlog

from mesh.errors import MeshError
from mesh.ports import Clock

T = TypeVar("T")

FIRST_DELAY = timedelta(milliseconds=100)
LONGEST_DELAY = timedelta(seconds=5)

_log = structlog.get_logger(__name__)


class Backoff:
    """The delays between tries: uniform in (0, cap], the cap doubling from 0.1 s to 5 s, so that
    agents that failed together do not come back together.
    """

    def __init__(self) -> None:
        self._cap = FIRST_DELAY

    def next(self) -> timedelta:
        """How long to wait before the next try."""
        delay = self._cap * random.uniform(0.05, 1.0)  # noqa: S311 - spreads load, guards nothing
        self._cap = min(2 * self._cap, LONGEST_DELAY)
        return delay

    def reset(self) -> None:
        """A try succeeded."""
        self._cap = FIRST_DELAY


class Outage:
    """Logs the first failure and the recovery of something, not each try between."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._reason: str | None = None
        self._hint = ""

    @property
    def reason(self) -> str | None:
        """Why it is out, while it is."""
        return self._reason

    @property
    def hint(self) -> str:
        """What to do about it, where that is known."""
        return self._hint

    def failed(self, reason: str, hint: str = "") -> None:
        """Note a failure; the first is logged, and one that asks for something else to be done."""
        if self._reason is None or hint != self._hint:
            remedy = {"hint": hint} if hint else {}
            _log.warning("out of reach, trying on", what=self._what, reason=reason, **remedy)
        self._reason, self._hint = reason, hint

    def recovered(self) -> None:
        """Note a success; the first after a failure is logged."""
        if self._reason is not None:
            _log.info("in reach again", what=self._what)
        self._reason, self._hint = None, ""


async def until_done(clock: Clock, outage: Outage, attempt: Callable[[], Awaitable[T]]) -> T:
    """Try until `attempt` does not fail with a MeshError; its result."""
    backoff = Backoff()
    while True:
        try:
            result = await attempt()
        except MeshError as error:
            outage.failed(error.message, error.hint)
            await clock.sleep(backoff.next())
        else:
            outage.recovered()
            return result


async def forever(clock: Clock, what: str, attempt: Callable[[], Awaitable[None]]) -> None:
    """Keep a task of the sidecar running: whatever it fails of is logged, and it starts again.

    A defect in one task must not end the others: the agent may be the only one on its host who
    renews a certificate in time.
    """
    backoff = Backoff()
    while True:
        started = clock.monotonic()
        try:
            await attempt()
        except MeshError as error:
            _log.warning("a task failed, trying again", task=what, reason=error.message)
        except Exception:  # noqa: BLE001 - the top of a task that must survive
            _log.exception("a task failed unexpectedly, trying again", task=what)
        if clock.monotonic() - started > LONGEST_DELAY.total_seconds():
            backoff.reset()
        await clock.sleep(backoff.next())
