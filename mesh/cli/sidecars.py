"""The commands that put an Envoy beside a service: sidecar, run."""

from typing import Annotated

import typer

from mesh.cli.flags import Flags
from mesh.cli.options import Namespace, Output, OutputOption

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
_Id = Annotated[
    str | None,
    typer.Option("--id", metavar="ID", help="Else <host>-<namespace>-<service>-<n>."),
]
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

_Metrics = Annotated[
    str | None,
    typer.Option("--metrics", metavar="HOST:PORT", help="Prometheus scrapes /metrics here."),
]
_Drain = Annotated[
    str | None,
    typer.Option(
        "--drain", metavar="DURATION", help="At the end open requests have this long; else 8s."
    ),
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
    metrics: _Metrics = None,
    drain: _Drain = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Run the sidecar of one instance until SIGTERM; it prints one line when it serves.

    Listens on 0.0.0.0:15006 for callers and 127.0.0.1:15001 for the program; port 0 is a free one.
    SIGHUP starts the agent anew, from the package as it is installed now; its Envoy serves on.
    """
    from mesh.cli.agent import Agent
    from mesh.cli.sidecar_options import Given

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
        metrics=metrics,
        drain=drain,
    )
    Agent(flags=_flags(context), given=given, as_json=output is Output.JSON).become()


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
    metrics: _Metrics = None,
    drain: _Drain = None,
) -> None:
    """Run a command beside a sidecar of its own; exits with the command's code.

    The command finds its sidecar by http_proxy and MESH_OUTBOUND. Ports not given are free ones.
    """
    from mesh.cli.agent import Agent
    from mesh.cli.sidecar_options import FREE_INBOUND, FREE_OUTBOUND, Given

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
        metrics=metrics,
        drain=drain,
    )
    Agent(flags=_flags(context), given=given, command=command).become()


def _flags(context: typer.Context) -> Flags:
    return context.obj if isinstance(context.obj, Flags) else Flags()
