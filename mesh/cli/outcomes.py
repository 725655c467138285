"""What became of an apply, and how it goes on a terminal meanwhile."""

import sys
from types import TracebackType
from typing import Self

from mesh.cli import console
from mesh.cli.console import JSON
from mesh.errors import NotAccepted
from mesh.operations.acceptance import Acceptance
from mesh.operations.apply import Outcome
from mesh.operations.plan import Prepared
from mesh.planning.plan import Act

_COMMITTED = "the revision is committed; `mesh status` shows how the sidecars go on"
_COMMITTING = "whether the revision is committed is unknown; `mesh history` tells"
_DONE = {Act.CREATE: "created", Act.UPDATE: "updated", Act.DELETE: "deleted"}


class Progress:
    """One line on a terminal that follows the sidecars, gone when the work is done."""

    def __init__(self, prepared: Prepared) -> None:
        self._total = len(prepared.impact)
        self._is_terminal = sys.stderr.isatty()
        self._is_committed = False

    def __enter__(self) -> Self:
        self._write("committing ...")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._write("")
        if kind is KeyboardInterrupt:
            console.note(_COMMITTED if self._is_committed else _COMMITTING)

    def show(self, found: Acceptance) -> None:
        """Say how far the sidecars are."""
        self._is_committed = True
        waiting = ", ".join(found.pending[:3]) + (", ..." if len(found.pending) > 3 else "")  # noqa: PLR2004
        text = f"{len(found.accepted)} of {self._total} sidecars run it"
        self._write(f"{text}; waiting for {waiting}" if waiting else text)

    def _write(self, text: str) -> None:
        if self._is_terminal:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()


def show_outcome(
    outcome: Outcome, prepared: Prepared, error: NotAccepted | None, *, as_json: bool
) -> None:
    """Print what became of an apply."""
    if as_json:
        console.say_json(_json(outcome, prepared, error))
        return
    for item in prepared.diagnostics:
        console.note(console.diagnostic_text(item, sys.stderr))
    if outcome.unchanged:
        console.say(f"unchanged: revision {outcome.revision} has what the documents say")
        return
    plan, found = prepared.plan, outcome.acceptance
    what = ", ".join(f"{plan.count(act)} {_DONE[act]}" for act in Act)
    console.say(f"revision {outcome.refused or outcome.revision}: {what}")
    if not outcome.waited and found.pending:
        console.say(f"{console.plural(len(found.pending), 'sidecar')} to follow; not waited for")
    elif outcome.waited and prepared.impact:
        console.say(
            f"sidecars: {len(found.accepted)} accepted, {len(found.rejected)} rejected, "
            f"{len(found.pending)} pending"
        )
    for item in found.diagnostics:
        console.note(console.diagnostic_text(item, sys.stderr))
    if error is not None:
        console.tell_error(error, as_json=False)


def _json(outcome: Outcome, prepared: Prepared, error: NotAccepted | None) -> JSON:
    found = outcome.acceptance
    diagnostics = (*prepared.diagnostics, *found.diagnostics)
    value: dict[str, JSON] = {
        "revision": outcome.revision,
        "unchanged": outcome.unchanged,
        "sidecars": {
            "accepted": len(found.accepted),
            "rejected": len(found.rejected),
            "pending": len(found.pending),
            "names": {
                "accepted": list(found.accepted),
                "rejected": list(found.rejected),
                "pending": list(found.pending),
            },
        },
        "diagnostics": [console.diagnostic_json(item) for item in diagnostics],
    }
    if outcome.restored is not None:
        value |= {"refused": outcome.refused, "restored": outcome.restored}
    if error is not None:
        value["error"] = {"code": error.code, "message": error.message, "hint": error.hint}
    return value
