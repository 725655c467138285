"""The command line: what exists, and what becomes of an error."""

import io
import os
import re
import sys
from collections.abc import Sequence
from itertools import islice, pairwise

import typer

from mesh.cli import authority, changes, console, host, inspection, sidecars, sync
from mesh.cli.failures import guarded
from mesh.cli.flags import Flags
from mesh.errors import UsageError
from mesh.settings import unknown_variables

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


def _mention_global_options(group: typer.Typer) -> None:
    """Each command's help says that there are more options than its own."""
    for command in group.registered_commands:
        command.epilog = f"{command.epilog}\n\n{_EVERYWHERE}"
    for inner in group.registered_groups:
        if inner.typer_instance is not None:
            _mention_global_options(inner.typer_instance)


_EVERYWHERE = f"Every command takes {', '.join(_GLOBAL)} and --verbose; see mesh --help."
_mention_global_options(app)


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
    for name, hint in unknown_variables(os.environ).items():
        console.note(f"warning: {name} is no setting and has no effect; {hint}")
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
    return guarded(lambda: _invoke(arguments), wants_json=lambda: wants_json(arguments))


def _invoke(arguments: Sequence[str]) -> int:
    """Run the command that the arguments name; the exit code.

    Raises:
        UsageError: they name none, or not as it wants to be called.
    """
    try:
        result = typer.main.get_command(app).main(
            args=hoist(arguments), prog_name="mesh", standalone_mode=False
        )
    except typer.Abort:
        raise KeyboardInterrupt from None
    except typer.TyperException as error:
        raise _usage(error) from error
    return result if isinstance(result, int) else 0


# The library's words for what was typed, and ours.
_WORDS = (
    (r": Value error, ", ": "),
    (r": Input should be a valid integer.*", ": it is no whole number"),
    (r" \(Possible options: (.*)\)", r"; did you mean \1?"),
    (r"\.? Did you mean '(.*)'\?", r"; did you mean \1?"),
)


def _usage(error: typer.TyperException) -> UsageError:
    message = error.format_message().rstrip(".")
    for theirs, ours in _WORDS:
        message = re.sub(theirs, ours, message)
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "mesh"
    return UsageError(message[:1].lower() + message[1:], f"see `{command} --help`")


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
