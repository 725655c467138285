"""A burst at once, then one each interval; rest restores the burst, and no more."""

from datetime import timedelta

from mesh.sidecar.pace import Pace, Rarely
from tests.support.manual_clock import ManualClock

SECOND = timedelta(seconds=1)


class Counting(ManualClock):
    """A clock on which who sleeps passes the time."""

    async def sleep(self, duration: timedelta) -> None:
        self.advance(duration)


async def moments(pace: Pace, clock: ManualClock, count: int) -> list[float]:
    found = []
    for _ in range(count):
        await pace.turn()
        pace.spend()
        found.append(round(clock.monotonic(), 6))
    return found


async def test_a_burst_then_one_each_interval() -> None:
    clock = Counting()
    pace = Pace(clock, SECOND, 3)
    assert await moments(pace, clock, 6) == [0, 0, 0, 1, 2, 3]


async def test_what_costs_a_share_is_done_the_more_often() -> None:
    clock = Counting()
    pace = Pace(clock, SECOND, 1)
    pace.spend(0.25)
    await pace.turn()
    assert clock.monotonic() == 0.25


async def test_rest_restores_the_burst() -> None:
    clock = Counting()
    pace = Pace(clock, SECOND, 3)
    await moments(pace, clock, 4)
    clock.advance(10 * SECOND)
    assert await moments(pace, clock, 4) == [11, 11, 11, 12]


async def test_a_turn_that_is_not_taken_costs_nothing() -> None:
    clock = Counting()
    pace = Pace(clock, SECOND, 1)
    for _ in range(3):
        await pace.turn()
    assert clock.monotonic() == 0


def test_an_answer_is_remembered_for_the_interval() -> None:
    clock, answers = ManualClock(), iter("ab")
    rarely = Rarely(clock, SECOND, lambda: next(answers))
    assert [rarely(), rarely()] == ["a", "a"]
    clock.advance(SECOND)
    assert [rarely(), rarely()] == ["b", "b"]
