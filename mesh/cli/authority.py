"""The certificate authority's commands: ca init, serve, status, rotate."""

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from mesh.cli import console, tokens
from mesh.cli.options import Output, OutputOption, duration
from mesh.errors import Conflict, InputError, NotFound, UsageError

if TYPE_CHECKING:
    from mesh.adapters.issuer import LocalIssuer
    from mesh.ca.status import AuthorityStatus

T = TypeVar("T")

group = typer.Typer(help="The certificate authority of this host.", rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(group, name="ca", epilog="Example: mesh ca status")
    tokens.register(app)


@group.command(epilog="Example: mesh ca init --trust-domain example.org")
def init(
    context: typer.Context,
    *,
    trust_domain: Annotated[
        str | None,
        typer.Option("--trust-domain", metavar="NAME", help="Fixed from now on [mesh.local]."),
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make the certificate authority and publish its root; the first sidecar would do it, too."""
    from mesh.ca.bundle import write_bundle
    from mesh.cli.wiring import with_store
    from mesh.operations.trust import publish
    from mesh.planning.record import serialize

    _check_alone(context)
    found = _with_issuer(context, lambda issuer: issuer.init(), trust_domain)
    bundle = _with_issuer(context, lambda issuer: issuer.bundle())
    with_store(context, lambda store, _: publish(store, serialize(write_bundle(bundle))))
    _show(found, output)


@group.command(epilog="Example: mesh ca serve --name ca.example.org --name 192.0.2.7")
def serve(
    context: typer.Context,
    *,
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Listens for sidecars here.")
    ] = "0.0.0.0:8443",
    name: Annotated[
        list[str] | None,
        typer.Option(
            "--name",
            metavar="NAME,...",
            help="Hosts and addresses that sidecars reach it by; may repeat [this host's].",
        ),
    ] = None,
    trust_domain: Annotated[
        str | None,
        typer.Option("--trust-domain", metavar="NAME", help="Of a new authority [mesh.local]."),
    ] = None,
    max_lifetime: Annotated[
        str,
        typer.Option("--max-lifetime", metavar="DURATION", help="No certificate lives longer."),
    ] = "168h",
    metrics: Annotated[
        str | None,
        typer.Option("--metrics", metavar="HOST:PORT", help="Figures and health by plain HTTP."),
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Serve the certificate authority to sidecars of other hosts until SIGTERM.

    It prints one line when it serves, with the MESH_CA for those hosts; make their tokens with
    `mesh token create`. The authority is that of the state folder, made on first use.
    """
    from mesh.cli.authority_service import Given, run

    run(
        context,
        Given(
            listen=listen,
            names=name or (),
            trust_domain=trust_domain,
            max_lifetime=max_lifetime,
            metrics=metrics,
        ),
        as_json=output is Output.JSON,
    )


@group.command(epilog="Example: mesh ca status --output json")
def status(context: typer.Context, *, output: OutputOption = Output.TEXT) -> None:
    """Show the trust domain and the certificates that sign."""
    _show(_with_issuer(context, lambda issuer: issuer.status()), output)


@group.command(epilog="Example: mesh ca rotate --root")
def rotate(
    context: typer.Context,
    *,
    root: Annotated[
        bool, typer.Option("--root", help="Also the root: trusted at once, used after a while.")
    ] = False,
    settle: Annotated[
        str | None,
        typer.Option(
            "--settle", metavar="DURATION", help="How long members may take to trust a root [10m]."
        ),
    ] = None,
    activate: Annotated[
        bool, typer.Option("--activate", help="Use the prepared root now: every member has it.")
    ] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Replace what signs, without a dropped request: leaves follow at their next renewal."""
    from mesh.ca.rotation import SETTLE

    if activate and (root or settle is not None):
        raise UsageError(
            "--activate ends the wait that --root began: they are two steps",
            "first: mesh ca rotate --root; later: mesh ca rotate --activate",
        )
    if settle is not None and not root:
        raise UsageError("--settle is for a new root", "mesh ca rotate --root --settle 10m")
    within = SETTLE if settle is None else duration(settle, "--settle")
    if activate:
        found = _with_issuer(context, lambda issuer: issuer.activate())
    else:
        found = _with_issuer(context, lambda issuer: issuer.rotate(root=root, settle=within))
    _show(found, output)


def _with_issuer(
    context: typer.Context,
    action: "Callable[[LocalIssuer], Coroutine[Any, Any, T]]",
    trust_domain: str | None = None,
) -> T:
    import asyncio

    from mesh.adapters.clock import SystemClock
    from mesh.cli.wiring import make_issuer, settings_of

    settings = settings_of(context)
    issuer = make_issuer(settings, SystemClock(), trust_domain)
    try:
        return asyncio.run(action(issuer))
    except NotFound as error:
        if settings.authority is None:
            raise
        where = f"https://{settings.authority.host}:{settings.authority.port}"
        hint = f"this host's authority is {where} (MESH_CA): type it on the host where that runs"
        raise NotFound(error.message, hint) from error


def _check_alone(context: typer.Context) -> None:
    """Refuse a new authority where the mesh has one: its root would replace the published one."""
    from mesh.cli.wiring import settings_of, with_store
    from mesh.operations.authority import read_served

    service = settings_of(context).authority
    if service is not None:
        raise InputError(
            f"this host's authority is https://{service.host}:{service.port} (MESH_CA)",
            "it needs none of its own; where one shall be made, set MESH_CA=local:",
        )
    served = with_store(context, lambda store, _: read_served(store))
    if served is not None and served.is_alive:
        raise Conflict(
            f'a certificate authority serves this mesh already, at "{served.status.url}"',
            "name it by MESH_CA; to make another in its place, stop it first",
        )


def _show(found: "AuthorityStatus", output: Output) -> None:
    from mesh.cli.render import instant

    if output is Output.JSON:
        console.say_json(
            {
                "trust_domain": found.trust_domain,
                "certificates": [
                    {
                        "role": item.role.value,
                        "use": item.use.value,
                        "fingerprint": item.fingerprint,
                        "not_before": instant(item.not_before),
                        "not_after": instant(item.not_after),
                        "until": None if item.until is None else instant(item.until),
                    }
                    for item in found.certificates
                ],
            }
        )
        return
    console.say(f"trust domain {found.trust_domain}")
    rows = [("ROLE", "USE", "UNTIL", "EXPIRES", "FINGERPRINT")]
    rows += [
        (
            item.role.value,
            item.use.value,
            "-" if item.until is None else f"{item.until:%Y-%m-%d %H:%M}Z",
            f"{item.not_after:%Y-%m-%d %H:%M}Z",
            item.fingerprint[:23],
        )
        for item in found.certificates
    ]
    console.say(console.table(rows))
