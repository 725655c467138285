"""Logging: readable on a terminal, one JSON object a line elsewhere; always on standard error."""

import os
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from types import ModuleType
from typing import cast


@contextmanager
def _hidden(name: str) -> Iterator[None]:
    """While a module is imported that would take `name` along because it can."""
    # None says "not there" to the import system.
    modules = cast("MutableMapping[str, ModuleType | None]", sys.modules)
    is_loaded = name in modules
    modules.setdefault(name, None)
    try:
        yield
    finally:
        if not is_loaded:
            del modules[name]


# For pretty tracebacks, which we do not want: 4 MB in every agent, for good.
with _hidden("rich"):
    import structlog


def configure(level: str) -> None:
    """Set structlog up for this process: lines of `level` (`debug`, `info`, ...) and above."""
    is_terminal = sys.stderr.isatty()
    renderer: structlog.typing.Processor = structlog.processors.JSONRenderer()
    if is_terminal:
        renderer = structlog.dev.ConsoleRenderer(
            colors=not os.environ.get("NO_COLOR"),
            # Without local variables: they may hold keys.
            exception_formatter=structlog.dev.plain_traceback,
        )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if is_terminal else [structlog.processors.format_exc_info]),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
