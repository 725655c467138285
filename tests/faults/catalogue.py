"""Every fault by its name: what is done, to what bed, and what the row says."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from tests.faults.bed import LASTING, Bed, bed
from tests.faults.report import Row
from tests.faults.sites import has_namespaces, wired

Act = Callable[[Bed], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Fault:
    """`act` does it and returns a note; `needs_wires`: sites of their own, cut for real."""

    name: str
    what: str
    act: Act
    needs_wires: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


FAULTS: dict[str, Fault] = {}


def fault(
    name: str, what: str, *, needs_wires: bool = False, **options: Any
) -> Callable[[Act], Act]:
    """Put a fault into the catalogue."""

    def add(act: Act) -> Act:
        FAULTS[name] = Fault(name, what, act, needs_wires, options)
        return act

    return add


class Skipped(Exception):
    """This machine cannot do it; the text says why."""


async def run(one: Fault, lasting: float = LASTING) -> Row:
    """Do a fault to a new mesh and measure; raises where the mesh does not become whole again.

    `lasting` is how many seconds it is without what is gone for long.
    """
    if one.needs_wires and not has_namespaces():
        raise Skipped("needs root and ip(8), for network namespaces")
    with ExitStack() as stack:
        wires = stack.enter_context(wired()) if one.needs_wires else None
        options = {k: v() if callable(v) else v for k, v in one.options.items()}
        async with bed(wires=wires, **options) as made:
            made.lasting = lasting
            note = await one.act(made)
            whole = await made.healed()
            await made.flows(50)
            since = made.mended_at or made.began
            return Row(
                name=one.name,
                what=one.what,
                requests=made.load.answers.total(),
                failed=made.load.failed,
                noticed=made.noticed,
                healed=round(whole - since, 3),
                acknowledged=len(made.acknowledged),
                lost=await made.missing(),
                note="; ".join(filter(None, (note, _kinds(made)))),
                date=datetime.now(UTC).strftime("%Y-%m-%d"),  # noqa: TID251
            )


def _kinds(made: Bed) -> str:
    found = {what: n for what, n in made.load.answers.items() if what != "200"}
    return "failed: " + ", ".join(f"{n} x {what}" for what, n in found.items()) if found else ""


def now() -> float:
    """The monotonic clock."""
    return monotonic()
