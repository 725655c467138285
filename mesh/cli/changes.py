"""The commands that check and change what the mesh is: validate, plan, apply, rollback."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mesh.cli import console
from mesh.cli.options import (
    AcceptRestore,
    Message,
    Output,
    OutputOption,
    Paths,
    PlanOutput,
    RollbackOnReject,
    Source,
    Timeout,
    Wait,
    Yes,
    duration,
    source_name,
)
from mesh.errors import NotAccepted, UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mesh.operations.apply import Outcome, Terms
    from mesh.operations.plan import Prepared
    from mesh.ports import Store

CHANGES_PENDING = 2


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: mesh validate policies/")(validate)
    app.command(epilog="Example: mesh plan policies/ --out next.plan")(plan)
    app.command(epilog='Example: mesh apply policies/ --yes --message "canary at 10 %"')(apply)
    app.command(epilog="Example: mesh rollback 41 --yes")(rollback)


def validate(
    paths: Paths,
    *,
    partial: Annotated[
        bool, typer.Option("--partial", help="What is referred to may be elsewhere.")
    ] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Check documents offline: every mistake with its place and what to do."""
    import asyncio

    from mesh.cli.render import show_validated
    from mesh.operations.validate import validate as operation

    with console.working("reading"):
        result = asyncio.run(operation(paths, partial=partial))
    show_validated(result, as_json=output is Output.JSON)
    if not result.is_valid:
        raise typer.Exit(1)


def plan(
    context: typer.Context,
    paths: Paths,
    *,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Keep the plan, to apply it later.")
    ] = None,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit with 2 if there are changes.")
    ] = False,
    source: Source = "main",
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="No documents: delete all the source's.")
    ] = False,
    output: Annotated[
        PlanOutput, typer.Option("--output", "-o", help="text, json or markdown.")
    ] = PlanOutput.TEXT,
) -> None:
    """Show what applying the documents would do, and to which sidecars."""
    from mesh.cli.plans import show_plan, write_file
    from mesh.cli.wiring import with_store
    from mesh.operations.plan import prepare

    source_name(source)
    with console.working("planning"):
        prepared = with_store(
            context, lambda store, _: prepare(store, paths, source, allow_empty=allow_empty)
        )
    if out is not None:
        write_file(out, prepared.plan)
    show_plan(prepared, output)
    if detailed_exitcode and prepared.plan.changes:
        raise typer.Exit(CHANGES_PENDING)


def apply(
    context: typer.Context,
    paths: Paths,
    *,
    yes: Yes = False,
    wait: Wait = True,
    timeout: Timeout = "30s",
    rollback_on_reject: RollbackOnReject = False,
    accept_restore: AcceptRestore = False,
    message: Message = "",
    source: Source = "main",
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="No documents: delete all the source's.")
    ] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make documents, or a plan file, the next revision and wait for the sidecars.

    The documents replace all that their source owned before; nothing is written if any has a
    mistake.
    """
    from mesh.operations.apply import load_plan, names_plan_file
    from mesh.operations.plan import prepare

    terms = _terms(message, wait, timeout, rollback_on_reject, accept_restore)
    source_name(source)
    plans = [path for path in paths if names_plan_file(path)]
    if plans and len(paths) > 1:
        raise UsageError(f'"{plans[0]}" is a plan file, which is applied alone')
    is_plan = bool(plans)
    _require_consent(yes or is_plan)

    async def plan_now(store: "Store") -> "Prepared":
        if is_plan:
            return await load_plan(store, Path(paths[0]))
        return await prepare(store, paths, source, allow_empty=allow_empty)

    _carry_out(context, plan_now, terms, ask=not (yes or is_plan), output=output)


def rollback(
    context: typer.Context,
    revision: Annotated[int, typer.Argument(metavar="N", min=0, help="The revision to restore.")],
    *,
    yes: Yes = False,
    wait: Wait = True,
    timeout: Timeout = "30s",
    rollback_on_reject: RollbackOnReject = False,
    accept_restore: AcceptRestore = False,
    message: Message = "",
    source: Annotated[
        str | None,
        typer.Option("--source", metavar="NAME", help="Only what this source owned then."),
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Bring back an older revision's documents, as a new revision."""
    from mesh.operations.history import prepare_rollback

    if source is not None:
        source_name(source)
    message = message or f"roll back to {revision}"
    terms = _terms(message, wait, timeout, rollback_on_reject, accept_restore)
    _require_consent(yes)
    _carry_out(
        context,
        lambda store: prepare_rollback(store, revision, source),
        terms,
        ask=not yes,
        output=output,
    )


def _terms(
    message: str, wait: bool, timeout: str, rollback_on_reject: bool, accept_restore: bool
) -> "Terms":
    from mesh.operations.apply import Terms

    if rollback_on_reject and not wait:
        raise UsageError("--rollback-on-reject needs to wait for the sidecars", "drop --no-wait")
    within = duration(timeout, "--timeout")
    return Terms(
        message=message,
        within=within if wait else None,
        rollback_on_reject=rollback_on_reject,
        accept_restore=accept_restore,
    )


def _require_consent(given: bool) -> None:
    if not given and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            "without a terminal nobody can be asked",
            "give --yes, or apply a file that `mesh plan --out FILE` made",
        )


def _carry_out(
    context: typer.Context,
    plan_now: "Callable[[Store], Awaitable[Prepared]]",
    terms: "Terms",
    *,
    ask: bool,
    output: Output,
) -> None:
    """Plan, ask, apply, tell. What is asked about is what is applied: the plan is bound to its
    base, and a head that moved while the question stood is refused.
    """
    from mesh.cli.outcomes import Progress, show_outcome
    from mesh.cli.plans import ask_about
    from mesh.cli.wiring import with_store
    from mesh.operations.apply import apply as operation

    with console.working("planning"):
        prepared = with_store(context, lambda store, _: plan_now(store))
    if ask and prepared.plan.changes:
        ask_about(prepared)
    with Progress(prepared) as progress:
        outcome = with_store(
            context, lambda store, clock: operation(store, clock, prepared, terms, progress.show)
        )
    error = None if outcome.is_done else _not_accepted(outcome)
    show_outcome(outcome, prepared, error, as_json=output is Output.JSON)
    if error is not None:
        raise typer.Exit(error.exit_code)


def _not_accepted(outcome: "Outcome") -> NotAccepted:
    found = outcome.acceptance
    if outcome.restored is not None:
        return NotAccepted(
            f"revision {outcome.refused} was rejected by {', '.join(found.rejected)}; "
            f"revision {outcome.revision} brought the content of {outcome.restored} back",
            "mend what the diagnostics name and apply again",
        )
    counts = f"{len(found.rejected)} rejected, {len(found.pending)} pending"
    names = ", ".join((*found.rejected, *found.pending))
    return NotAccepted(
        f"revision {outcome.revision} is committed but not accepted everywhere: {counts} ({names})",
        "`mesh status` shows how it goes on; `mesh rollback` goes back",
    )
