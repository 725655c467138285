"""The command that follows a git repository: sync."""

import os
import shlex
import socket
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated

import typer

from mesh.cli.options import Output, OutputOption, Source, Timeout, duration, source_name
from mesh.errors import UsageError

if TYPE_CHECKING:
    from mesh.sync.options import Drift
    from mesh.sync.webhook import WebhookOptions

_Repo = Annotated[str, typer.Option("--repo", metavar="URL|PATH", help="What `git fetch` takes.")]
_Branch = Annotated[str, typer.Option("--branch", metavar="NAME", help="The branch to follow.")]
_Path = Annotated[
    str, typer.Option("--path", metavar="DIR", help="The policies' folder in it [all of it].")
]
_Interval = Annotated[
    str, typer.Option("--interval", metavar="DURATION", help="How often to look.")
]
_Once = Annotated[bool, typer.Option("--once", help="Look once, wait for the sidecars, exit.")]
_Resume = Annotated[
    bool, typer.Option("--resume", help="Apply the newest commit although it was rolled back.")
]
_Drift = Annotated[
    str,
    typer.Option("--drift", metavar="show|repair|leave", help="What to do about changes by hand."),
]
_AllowEmpty = Annotated[
    bool, typer.Option("--allow-empty", help="No documents: delete all the source's.")
]
_RequireSignature = Annotated[
    bool, typer.Option("--require-signature", help="Apply only commits that are signed.")
]
_AllowedSigners = Annotated[
    Path | None,
    typer.Option("--allowed-signers", metavar="FILE", help="Whose SSH signatures count, alone."),
]
_Report = Annotated[
    Path | None, typer.Option("--report", metavar="FILE", help="Keep the newest report there.")
]
_Hook = Annotated[
    str | None,
    typer.Option("--on-failure", metavar="COMMAND", help="Run it, report on its standard input."),
]
_Webhook = Annotated[
    str | None, typer.Option("--webhook", metavar="HOST:PORT", help="Be called after a push.")
]
_Secret = Annotated[
    Path | None,
    typer.Option("--webhook-secret", metavar="FILE", help="What the caller must know."),
]

_Metrics = Annotated[
    str | None,
    typer.Option("--metrics", metavar="HOST:PORT", help="Prometheus scrapes /metrics here."),
]


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(
        epilog="Example: mesh sync --repo git@git.example:mesh.git --branch main --path policies"
    )(sync)


def sync(
    context: typer.Context,
    *,
    repo: _Repo,
    branch: _Branch = "main",
    path: _Path = "",
    interval: _Interval = "30s",
    source: Source = "main",
    once: _Once = False,
    timeout: Timeout = "30s",
    resume: _Resume = False,
    drift: _Drift = "show",
    allow_empty: _AllowEmpty = False,
    require_signature: _RequireSignature = False,
    allowed_signers: _AllowedSigners = None,
    report: _Report = None,
    on_failure: _Hook = None,
    webhook: _Webhook = None,
    webhook_secret: _Secret = None,
    metrics: _Metrics = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Keep a source at the newest commit of a branch; a bad commit changes nothing.

    Several repositories are several sources. Of several syncs of one source one works, the
    others stand by.
    """
    from mesh.adapters.git import GitOptions
    from mesh.adapters.git.location import locate, redact
    from mesh.cli.sidecar_options import address
    from mesh.cli.sync_process import Process
    from mesh.cli.wiring import settings_of
    from mesh.sync.options import SyncOptions

    if allowed_signers is not None and not require_signature:
        raise UsageError("--allowed-signers says nothing without --require-signature")
    options = SyncOptions(
        source=source_name(source),
        repository=redact(locate(repo)),
        branch=branch,
        path=folder(path),
        name=f"{socket.gethostname()}:{os.getpid()}",
        interval=duration(interval, "--interval"),
        patience=duration(timeout, "--timeout"),
        drift=_drift(drift),
        resume=resume,
        require_signature=require_signature,
        allow_empty=allow_empty,
    )
    process = Process(
        settings=settings_of(context),
        options=options,
        git=GitOptions(url=repo, branch=branch, signers=_signers(allowed_signers)),
        report=report,
        hook=_words(on_failure),
        as_json=output is Output.JSON,
        metrics=None if metrics is None else address(metrics, "--metrics"),
    )
    if once:
        raise typer.Exit(process.once())
    process.serve(_webhook(webhook, webhook_secret))


def folder(text: str) -> str:
    """A folder of a repository as git names it; "" is its root.

    Raises:
        UsageError: it leads out of the repository.
    """
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts:
        raise UsageError(f'--path: "{text}" is no folder of a repository', "write it from its root")
    return "" if path == PurePosixPath() else str(path)


def _drift(text: str) -> "Drift":
    from mesh.sync.options import Drift

    try:
        return Drift(text)
    except ValueError:
        raise UsageError(f'--drift: "{text}" is none of {", ".join(Drift)}') from None


def _signers(file: Path | None) -> Path | None:
    if file is not None and not file.is_file():
        raise UsageError(f'--allowed-signers: there is no file "{file}"')
    return None if file is None else file.absolute()


def _words(command: str | None) -> list[str]:
    try:
        words = shlex.split(command or "")
    except ValueError as error:
        raise UsageError(f"--on-failure: {error}") from error
    if command is not None and not words:
        raise UsageError("--on-failure: there is no command")
    return words


def _webhook(where: str | None, secret: Path | None) -> "WebhookOptions | None":
    from mesh.cli.sidecar_options import address
    from mesh.sync.webhook import WebhookOptions, read_secret

    if (where is None) != (secret is None):
        raise UsageError("--webhook and --webhook-secret go together")
    if where is None or secret is None:
        return None
    return WebhookOptions(address(where, "--webhook"), read_secret(secret))
