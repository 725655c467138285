"""The commands that only look: status, get, describe, history, diff."""

from typing import Annotated

import typer

from mesh.cli import completion
from mesh.cli.options import Namespace, Output, OutputOption

_KIND = typer.Argument(metavar="KIND", help="For example Service.", autocompletion=completion.kinds)
_NAME = typer.Argument(metavar="NAME", help="Its name.", autocompletion=completion.names)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: mesh status --watch")(status)
    app.command(epilog="Example: mesh get HTTPRoute canary --revision 41")(get)
    app.command(epilog="Example: mesh describe Service api")(describe)
    app.command(epilog="Example: mesh history --output json")(history)
    app.command(epilog="Example: mesh diff 41 42")(diff)


def status(
    context: typer.Context,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on with every change.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show head and how far each sidecar is: in-sync, pending, rejected or stale, and why."""
    from mesh.cli.render import show_next_status, show_status
    from mesh.cli.wiring import with_store
    from mesh.operations import status as operations

    as_json = output is Output.JSON
    if watch:
        with_store(
            context,
            lambda store, _: operations.follow(
                store, lambda found: show_next_status(found, as_json=as_json)
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


def get(
    context: typer.Context,
    kind: Annotated[str | None, _KIND] = None,
    name: Annotated[str | None, _NAME] = None,
    *,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", metavar="NS", help="Only in this one.")
    ] = None,
    revision: Annotated[
        int | None,
        typer.Option("--revision", metavar="N", min=1, help="An older revision than head."),
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Print the documents of the mesh as YAML."""
    from mesh.cli.render import show_documents
    from mesh.cli.wiring import with_store
    from mesh.operations.inspection import Selection, documents, kind_of

    selection = Selection(
        kind=None if kind is None else kind_of(kind), name=name, namespace=namespace
    )
    found = with_store(context, lambda store, _: documents(store, selection, revision))
    show_documents(found, as_json=output is Output.JSON)


def describe(
    context: typer.Context,
    kind: Annotated[str, _KIND],
    name: Annotated[str, _NAME],
    *,
    namespace: Namespace = "default",
    output: OutputOption = Output.TEXT,
) -> None:
    """Show what bears on a document and from where; for a service, who may call whom."""
    from mesh.cli.descriptions import show_description
    from mesh.cli.wiring import with_store
    from mesh.model.policy import PolicyKey
    from mesh.operations.inspection import describe as operation
    from mesh.operations.inspection import kind_of

    key = PolicyKey(kind_of(kind), namespace, name)
    found = with_store(context, lambda store, _: operation(store, key))
    show_description(found, as_json=output is Output.JSON)
