"""The commands that only look: status, get, describe, history, diff."""

from typing import Annotated

import typer

from mesh.cli.options import Output, OutputOption

_Revision = Annotated[
    int | None, typer.Option("--revision", metavar="N", help="An older revision instead of head.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: mesh status --watch")(status)
    app.command(epilog="Example: mesh history --output json")(history)
    app.command(epilog="Example: mesh diff 41 42")(diff)


def status(
    context: typer.Context,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on with every change.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show head and how far each sidecar is: in-sync, pending, rejected or stale, and why."""
    from mesh.cli.render import show_status
    from mesh.cli.wiring import with_store
    from mesh.operations import status as operations

    as_json = output is Output.JSON
    if watch:
        with_store(
            context,
            lambda store, _: operations.follow(
                store, lambda found: show_status(found, as_json=as_json)
            ),
        )
    else:
        found = with_store(context, lambda store, _: operations.status(store))
        show_status(found, as_json=as_json)


def history(context: typer.Context, output: OutputOption = Output.TEXT) -> None:
    """List the revisions that are kept, newest first."""
    from mesh.cli.render import show_history
    from mesh.cli.wiring import with_store
    from mesh.operations.history import history as operation

    revisions = with_store(context, lambda store, _: operation(store))
    show_history(revisions, as_json=output is Output.JSON)


def diff(
    context: typer.Context,
    before: Annotated[int, typer.Argument(metavar="A", min=0, help="The older revision.")],
    after: Annotated[int, typer.Argument(metavar="B", min=0, help="The newer revision.")],
    output: OutputOption = Output.TEXT,
) -> None:
    """Show what changed between two revisions, field by field."""
    from mesh.cli.render import show_difference
    from mesh.cli.wiring import with_store
    from mesh.operations.history import difference

    found = with_store(context, lambda store, _: difference(store, before, after))
    show_difference(found, as_json=output is Output.JSON)
