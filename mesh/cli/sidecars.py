"""The commands that put an Envoy beside a service: sidecar, run."""

from typing import Annotated

import typer

from mesh.cli.options import Flags, Namespace, Output, OutputOption

_Service = Annotated[str, typer.Option("--service", metavar="NAME", help="Who this instance is.")]
_App = Annotated[
    str | None,
    typer.Option("--app", metavar="HOST:PORT", help="The program; without it, a caller only."),
]
_Meta = Annotated[
    list[str] | None, typer.Option("--meta", metavar="K=V", help="For selectors; may repeat.")
]
_Tags = Annotated[
    list[str] | None, typer.Option("--tag", metavar="T", help="For selectors; may repeat.")
]
_Id = Annotated[str | None, typer.Option("--id", metavar="ID", help="The instance's own name.")]
_Inbound = Annotated[
    str | None, typer.Option("--inbound", metavar="HOST:PORT", help="Listens for callers here.")
]
_Outbound = Annotated[
    str | None, typer.Option("--outbound", metavar="HOST:PORT", help="Listens for the program.")
]
_Upstreams = Annotated[
    list[str] | None,
    typer.Option(
        "--upstream", metavar="NAME[.NS]=[HOST:]PORT", help="Pin a TCP service; may repeat."
    ),
]
_Advertise = Annotated[
    str | None, typer.Option("--advertise", metavar="HOST", help="Where others reach this host.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: mesh sidecar --service api --app 127.0.0.1:8080")(sidecar)
    app.command(epilog="Example: mesh run --service web -- curl http://api/items")(run)


def sidecar(
    context: typer.Context,
    *,
    service: _Service,
    namespace: Namespace = "default",
    app: _App = None,
    meta: _Meta = None,
    tag: _Tags = None,
    id: _Id = None,
    inbound: _Inbound = None,
    outbound: _Outbound = None,
    upstream: _Upstreams = None,
    advertise: _Advertise = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Run the sidecar of one instance until SIGTERM; it prints one line when it serves.

    Listens on 0.0.0.0:15006 for callers and 127.0.0.1:15001 for the program; port 0 is a free one.
    SIGHUP starts the agent anew, from the package as it is installed now; its Envoy serves on.
    """
    import asyncio

    from mesh.cli.announcement import Announcement
    from mesh.cli.sidecar_options import Given
    from mesh.cli.wiring import settings_of, sidecar_ports
    from mesh.sidecar.run import serve

    given = Given(
        service=service,
        namespace=namespace,
        app=app,
        inbound=inbound,
        outbound=outbound,
        meta=meta or (),
        tags=tag or (),
        id=id,
        upstreams=upstream or (),
        advertise=advertise,
    )
    settings = settings_of(context)
    options = given.options(settings.state)
    _configure_log(context, level="info")
    as_json = output is Output.JSON
    ports = sidecar_ports(settings)
    announcement = Announcement(as_json=as_json)
    if asyncio.run(serve(options, ports, announcement.ready)):
        announcement.start_next()


def run(
    context: typer.Context,
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND...", help="What to run.")],
    *,
    service: _Service,
    namespace: Namespace = "default",
    app: _App = None,
    meta: _Meta = None,
    tag: _Tags = None,
    id: _Id = None,
    inbound: _Inbound = None,
    outbound: _Outbound = None,
    upstream: _Upstreams = None,
    advertise: _Advertise = None,
) -> None:
    """Run a command beside a sidecar of its own; exits with the command's code.

    The command finds its sidecar by http_proxy and MESH_OUTBOUND. Ports not given are free ones.
    """
    import asyncio
    import os

    from mesh.cli.sidecar_options import FREE_INBOUND, FREE_OUTBOUND, Given
    from mesh.cli.wiring import settings_of, sidecar_ports
    from mesh.sidecar.run import run_command

    given = Given(
        service=service,
        namespace=namespace,
        app=app,
        inbound=inbound or FREE_INBOUND,
        outbound=outbound or FREE_OUTBOUND,
        meta=meta or (),
        tags=tag or (),
        id=id,
        upstreams=upstream or (),
        advertise=advertise,
    )
    settings = settings_of(context)
    options = given.options(settings.state)
    _configure_log(context, level="warning")
    code = asyncio.run(run_command(options, sidecar_ports(settings), command, dict(os.environ)))
    raise typer.Exit(code)


def _configure_log(context: typer.Context, *, level: str) -> None:
    from mesh import log

    verbose = isinstance(context.obj, Flags) and context.obj.verbose
    log.configure("debug" if verbose else level)
