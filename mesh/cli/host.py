"""The commands about this machine: init, doctor, demo."""

from pathlib import Path
from typing import Annotated

import typer

from mesh.cli import console
from mesh.cli.options import Output, OutputOption


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: mesh init policies && mesh validate policies")(init)
    app.command(epilog="Example: mesh doctor --output json")(doctor)
    app.command(epilog="Example: mesh health --output json")(health)
    app.command(epilog="Example: mesh demo --once")(demo)


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Made if it lacks.")] = Path(),
    *,
    output: OutputOption = Output.TEXT,
) -> None:
    """Write a starter folder of policies that validates and runs."""
    from mesh.operations.starter import write_starter

    starter = write_starter(folder)
    if output is Output.JSON:
        console.say_json({"folder": str(starter.folder), "files": list(starter.files)})
        return
    for name in starter.files:
        console.say(f"wrote {starter.folder / name}")
    console.say("")
    console.say("next:")
    for line in (
        f"mesh apply {starter.folder} --yes",
        "python3 -m http.server 8080 --bind 127.0.0.1 &",
        "mesh sidecar --service api --app 127.0.0.1:8080 &",
        "mesh run --service web -- curl http://api/",
    ):
        console.say(f"  {line}")


def doctor(context: typer.Context, *, output: OutputOption = Output.TEXT) -> None:
    """Check this host and what the mesh needs; each finding says what to do."""
    from mesh.cli.checkup import examine, show

    findings = examine(context)
    show(findings, as_json=output is Output.JSON)
    if any(finding.is_error for finding in findings):
        raise typer.Exit(3)


def health(
    context: typer.Context,
    *,
    id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="This sidecar; else all of the host.")
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Say whether the sidecars of this host serve; 3 where one does not, or there is none.

    A sidecar serves while its Envoy does, its agent alive or not. A container's health check
    asks the same by `python3 -m mesh.cli.health`, which starts ten times faster.
    """
    from mesh.cli.health import OUTSIDE, examine, is_healthy, line
    from mesh.cli.wiring import settings_of

    state = settings_of(context).state
    found = examine(state, id)
    if output is Output.JSON:
        console.say_json(
            {
                "healthy": is_healthy(found),
                "sidecars": [
                    {"id": one.id, "serving": one.is_serving, "reason": one.reason} for one in found
                ],
            }
        )
    else:
        for words in [line(one) for one in found] or [f"no sidecar runs below {state}"]:
            console.say(words)
    if not is_healthy(found):
        raise typer.Exit(OUTSIDE)


def demo(
    *,
    once: Annotated[
        bool, typer.Option("--once", help="End after the story; fails if a check does.")
    ] = False,
) -> None:
    """Show the mesh at work: a shop of three services on this machine, until Ctrl-C."""
    import asyncio

    from mesh.demo.play import play

    if code := asyncio.run(play(once=once, say=console.say_now)):
        raise typer.Exit(code)
