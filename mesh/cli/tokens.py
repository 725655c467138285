"""The join tokens' commands: token create, list, revoke."""

from typing import TYPE_CHECKING, Annotated

import typer

from mesh.cli import console
from mesh.cli.options import Namespace, Output, OutputOption, duration

if TYPE_CHECKING:
    from mesh.ca.tokens import JoinToken

group = typer.Typer(
    help="Join tokens: what a host shows the certificate authority once.", rich_markup_mode=None
)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(group, name="token", epilog="Example: mesh token create --service web")


@group.command(epilog="Example: mesh token create --service web --ttl 1h > web.token")
def create(
    context: typer.Context,
    *,
    service: Annotated[str, typer.Option("--service", metavar="NAME", help="Who may join.")],
    namespace: Namespace = "default",
    ttl: Annotated[
        str, typer.Option("--ttl", metavar="DURATION", help="How long it admits, at most 720h.")
    ] = "1h",
    uses: Annotated[
        int, typer.Option("--uses", metavar="N", min=1, help="How many hosts may join with it.")
    ] = 1,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make a join token and show it, once: the store keeps only its hash and its limits.

    Bring it to the joining host as a file, which MESH_TOKEN_FILE names there.
    """
    from mesh.authority.registry import Registry
    from mesh.cli.sidecar_options import label
    from mesh.cli.wiring import with_store
    from mesh.model.identity import ServiceName
    from mesh.operations.authority import read_served

    name = ServiceName(label(namespace, "--namespace"), label(service, "--service"))
    lives = duration(ttl, "--ttl")
    token, record = with_store(
        context, lambda store, clock: Registry(store, clock).create(name, ttl=lives, uses=uses)
    )
    if output is Output.JSON:
        console.say_json({"token": token, **_limits(record)})
        return
    console.say(token)
    console.note(
        f"token {record.id}: {console.plural(record.uses, 'use')} for {record.service} "
        f"until {record.expires:%Y-%m-%d %H:%M:%S}Z; it is shown only now"
    )
    served = with_store(context, lambda store, _: read_served(store))
    if served is None or not served.is_alive:
        console.note("no certificate authority serves this mesh now; joins need: mesh ca serve")


@group.command("list", epilog="Example: mesh token list --output json")
def list_tokens(context: typer.Context, *, output: OutputOption = Output.TEXT) -> None:
    """List the tokens by their ids, with what is left of them; never a token itself."""
    from mesh.adapters.clock import SystemClock
    from mesh.authority.registry import Registry
    from mesh.cli.wiring import with_store

    found = with_store(context, lambda store, clock: Registry(store, clock).all())
    now = SystemClock().now()
    if output is Output.JSON:
        console.say_json([{**_limits(record), "state": record.state(now)} for record in found])
        return
    rows = [("ID", "SERVICE", "STATE", "USES LEFT", "EXPIRES")]
    rows += [
        (
            record.id,
            str(record.service),
            record.state(now),
            str(record.uses),
            f"{record.expires:%Y-%m-%d %H:%M:%S}Z",
        )
        for record in found
    ]
    console.say(console.table(rows))


@group.command(epilog="Example: mesh token revoke 5f0c1a2b3c4d")
def revoke(
    context: typer.Context,
    id: Annotated[str, typer.Argument(metavar="ID", help="As `mesh token list` shows it.")],
    *,
    output: OutputOption = Output.TEXT,
) -> None:
    """Take a token back: it admits nobody from now on. Certificates live until they expire."""
    from mesh.authority.registry import Registry
    from mesh.cli.wiring import with_store

    record = with_store(context, lambda store, clock: Registry(store, clock).revoke(id))
    if output is Output.JSON:
        console.say_json({"revoked": record.id})
    else:
        console.say(f"token {record.id} for {record.service} is revoked")


def _limits(record: "JoinToken") -> dict[str, console.JSON]:
    from mesh.cli.render import instant

    return {
        "id": record.id,
        "service": record.service.name,
        "namespace": record.service.namespace,
        "expires": instant(record.expires),
        "uses": record.uses,
    }
