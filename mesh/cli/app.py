"""The command line: what exists, and what becomes of an error."""

import io
import os
import sys
from collections.abc import Sequence
from itertools import islice, pairwise

import typer

from mesh.cli import authority, changes, console, host, inspection, sidecars, sync
from mesh.cli.bugs import report_bug
from mesh.cli.options import Flags
from mesh.errors import MeshError, UsageError

INTERRUPTED = 130
_GLOBAL = ("--store", "--discovery", "--ca", "--state", "--config")

app = typer.Typer(
    name="mesh",
    help="A service mesh without Kubernetes: YAML policies, one atomic revision, real Envoys.",
    epilog="Example: mesh init shop && mesh apply shop --yes && mesh status",
    no_args_is_help=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for group in (changes, inspection, sync, sidecars, host):
    group.register(app)
authority.register(app)


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    *,
    store: str = typer.Option(None, metavar="URL", help="sqlite:///PATH or etcd://HOST:2379."),
    discovery: str = typer.Option(None, metavar="URL", help="store: or consul://HOST:8500."),
    ca: str = typer.Option(None, metavar="URL", help="local: or https://HOST:8443?..."),
    state: str = typer.Option(None, metavar="DIR", help="Where this host's files are."),
    config: str = typer.Option(None, metavar="FILE", help="mesh.toml, else found upwards."),
    verbose: bool = typer.Option(False, "--verbose", help="Log more."),
    version: bool = typer.Option(False, "--version", help="Show the version."),
) -> None:
    """Take the global options; each has a MESH_* variable."""
    context.obj = Flags(store, discovery, ca, state, config, verbose)
    if version:
        from importlib.metadata import version as installed

        console.say(f"mesh {installed('mesh')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        console.say(context.get_help())
        raise typer.Exit


def run(arguments: Sequence[str]) -> int:
    """Run one command line; the exit code. Never raises."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A file's name may be bytes that are no text; showing it must not fail.
            stream.reconfigure(errors="backslashreplace")
    try:
        result = typer.main.get_command(app).main(
            args=hoist(arguments), prog_name="mesh", standalone_mode=False
        )
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        console.note("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # Who read our output has left: nothing more to say, and no complaint at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 (the top: a bug becomes a report, no traceback)
        return _tell(_leaf(error), arguments)
    return result if isinstance(result, int) else 0


def _tell(error: BaseException, arguments: Sequence[str]) -> int:
    """Show what went wrong; the exit code."""
    as_json = wants_json(arguments)
    if isinstance(error, typer.TyperException):
        message = error.format_message().rstrip(".")
        error = UsageError(message[:1].lower() + message[1:], "see `mesh COMMAND --help`")
    if isinstance(error, MeshError):
        console.tell_error(error, as_json=as_json)
        return error.exit_code
    return report_bug(error, as_json=as_json)


def _leaf(error: BaseException) -> BaseException:
    """The error that a task group wrapped: the first of ours, else the first."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    ours = error.subgroup(MeshError)
    group: BaseException = ours or error
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group


def hoist(arguments: Sequence[str]) -> list[str]:
    """The arguments with the global options in front, wherever they were given before `--`."""
    front: list[str] = []
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        name, _, value = word.partition("=")
        if word == "--":
            rest += [word, *words]
        elif name in _GLOBAL and (value or "=" in word):
            front.append(word)
        elif name in _GLOBAL:
            front += [word, *islice(words, 1)]
        else:
            (front if word == "--verbose" else rest).append(word)
    return front + rest


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether errors are to be told as JSON, as far as a wrong command line can be understood."""
    words = list(arguments)
    if "--" in words:
        words = words[: words.index("--")]
    if "--output=json" in words:
        return True
    return any(word in ("--output", "-o") and value == "json" for word, value in pairwise(words))
