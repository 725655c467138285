"""Our own mistakes: a short request to report them, and the details in a file."""

import os
import sys
from pathlib import Path

from mesh.cli import console

EXIT_CODE = 70


def report_bug(error: BaseException, *, as_json: bool) -> int:
    """Write the traceback to a private file and say where it is; the exit code."""
    import traceback

    summary = f"mesh failed by a mistake of its own: {type(error).__name__}: {error}"
    details = f"{_facts()}\n{''.join(traceback.format_exception(error))}"
    place = _write(details)
    hint = f"please report it with {place}" if place else f"please report it:\n{details}"
    if as_json:
        console.say_json({"error": {"code": "bug", "message": summary, "hint": hint}})
    else:
        console.note(f"{console.paint('error[bug]', console.RED, sys.stderr)}: {summary}")
        console.note(f"  hint: {hint}")
    return EXIT_CODE


def _facts() -> str:
    """What a reader needs; no arguments, which may hold secrets."""
    import platform
    from importlib.metadata import version

    command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"mesh {version('mesh')}, command {command!r}, {python}, {platform.platform()}"


def _write(details: str) -> Path | None:
    """A new file that only the user can read (mkstemp makes it 0600)."""
    import tempfile

    try:
        descriptor, name = tempfile.mkstemp(prefix="mesh-bug-", suffix=".log")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(details)
    except OSError:
        return None
    return Path(name)
