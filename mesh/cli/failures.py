"""What becomes of an error at the top: a message for people or programs, and an exit code."""

import os
import signal
import sys
from collections.abc import Callable

from mesh.cli import console
from mesh.cli.bugs import report_bug
from mesh.errors import MeshError

INTERRUPTED = 130


def guarded(work: Callable[[], int], *, wants_json: Callable[[], bool]) -> int:
    """The exit code of `work`, or that of what it raised, once it is told. Never raises."""
    try:
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        code = work()
        console.flush()
    except KeyboardInterrupt:
        console.note("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # Who read our output has left: nothing more to say, and no complaint at exit.
        _write_no_more()
        return 0
    except Exception as error:  # noqa: BLE001 (the top: a bug becomes a report, no traceback)
        return _told(_leaf(error), as_json=wants_json())
    return code


def _write_no_more() -> None:
    """Let what is left, and the flush at the exit, go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _told(error: BaseException, *, as_json: bool) -> int:
    """Show what went wrong, on standard error where standard output is what failed."""
    if isinstance(error, console.OutputLost):
        _write_no_more()
        as_json = False
    try:
        code = _tell(error, as_json=as_json)
        console.flush()
    except (BrokenPipeError, console.OutputLost):
        _write_no_more()
        code = _tell(error, as_json=False) if as_json else code
    return code


def _tell(error: BaseException, *, as_json: bool) -> int:
    """Show what went wrong; the exit code."""
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
