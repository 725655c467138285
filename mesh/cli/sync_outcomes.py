"""What a sync says: lines, a report in a file, and the end of `--once`."""

import json
import os
import tempfile
from pathlib import Path

import structlog

from mesh.adapters.systemd import notify
from mesh.cli import console
from mesh.cli.console import JSON
from mesh.cli.sources import source_json, source_line
from mesh.errors import InvalidDocuments
from mesh.model.source import SourceStatus
from mesh.sync.follower import Looked

_log = structlog.get_logger(__name__)


class Lines:
    """Says each report on standard output: JSON is one line; and to systemd, for its status."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    def tell(self, status: SourceStatus) -> None:
        """Say one; what is wrong follows on standard error."""
        notify(f"STATUS={source_line(status)}")
        if self._as_json:
            console.say_now(json.dumps(source_json(status), ensure_ascii=False))
            return
        console.say_now(source_line(status))
        for item in status.diagnostics:
            console.note(console.diagnostic_text(item))
        if status.message:
            console.note(f"{status.code}: {status.message}")


class ReportFile:
    """The newest report as a JSON file, always whole; it may be read by everybody."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def tell(self, status: SourceStatus) -> None:
        """Replace the file; a disk that is full stops no sync."""
        text = json.dumps(source_json(status), indent=2, ensure_ascii=False) + "\n"
        try:
            descriptor, name = tempfile.mkstemp(
                dir=self._path.parent, prefix=f".{self._path.name}."
            )
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    os.fchmod(descriptor, 0o644)
                    file.write(text)
                Path(name).replace(self._path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
        except OSError as error:
            _log.warning("the report cannot be written", file=str(self._path), reason=str(error))


def show_looked(looked: Looked, *, as_json: bool) -> None:
    """Say what `--once` came to."""
    error = looked.error
    if as_json:
        value: dict[str, JSON] = dict(source_json(looked.status))
        if error is not None:
            value["error"] = {"code": error.code, "message": error.message, "hint": error.hint}
        console.say_json(value)
        return
    console.say(source_line(looked.status))
    if not isinstance(error, InvalidDocuments):  # which shows its own
        for item in looked.status.diagnostics:
            console.note(console.diagnostic_text(item))
    if error is not None:
        console.tell_error(error, as_json=False)
