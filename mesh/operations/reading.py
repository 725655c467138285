"""Documents from the disk or standard input: bounded, without loops, each mistake at its place.

Names are relative to the git root, so that they are the same in every checkout; outside of git
they are relative to the given path, and begin with it where several are given.
"""

import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from mesh.diagnostics import Diagnostic, Position, Severity

STDIN = "-"
STDIN_NAME = "<stdin>"
SUFFIXES = (".yaml", ".yml")
MAX_FILE_BYTES = 8 * 1024 * 1024
MAX_SET_BYTES = 512 * 1024 * 1024
MAX_FILES = 100_000


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file's name, as diagnostics and the manifest show it, and its bytes."""

    name: str
    data: bytes = field(repr=False)


@dataclass(slots=True)
class Reading:
    """What was read, and what could not be."""

    files: list[SourceFile] = field(default_factory=list)
    diagnostics: list[Diagnostic] = field(default_factory=list)
    size_bytes: int = 0
    seen: set[tuple[int, int]] = field(default_factory=set)

    def refuse(self, name: str, code: str, message: str, hint: str = "") -> None:
        """Note what could not be read."""
        self.diagnostics.append(Diagnostic(Position(name), Severity.ERROR, code, message, hint))

    def warn(self, name: str, code: str, message: str, hint: str) -> None:
        """Note what is probably not meant."""
        self.diagnostics.append(Diagnostic(Position(name), Severity.WARNING, code, message, hint))

    def first_visit(self, status: os.stat_result) -> bool:
        """Whether a file or folder is met for the first time: links may lead in circles."""
        is_first = not self.has_visited(status)
        self.seen.add((status.st_dev, status.st_ino))
        return is_first

    def has_visited(self, status: os.stat_result) -> bool:
        """Whether a file or folder was met."""
        return (status.st_dev, status.st_ino) in self.seen


def read_paths(paths: Sequence[str]) -> Reading:
    """Read files, folders (every `*.yaml` and `*.yml` below, hidden ones left out) and `-`.

    Each file once, in the order of their names. A folder that has none is worth a warning. Blocks.
    """
    reading = Reading()
    for text in paths:
        if text == STDIN:
            _read_stdin(reading)
        else:
            _read_path(Path(text), reading, is_one_of_several=len(paths) > 1)
    return reading


def is_read(name: str) -> bool:
    """Whether a file in a folder is one of documents, by its name."""
    return name.lower().endswith(SUFFIXES)


def git_root(path: Path) -> Path | None:
    """The folder that has `.git`, at `path` or above it."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 (keeps symbolic links as they are)
    for folder in (absolute, *absolute.parents):
        if (folder / ".git").exists():
            return folder
    return None


def _read_stdin(reading: Reading) -> None:
    data = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        reading.refuse(STDIN_NAME, *_too_large("more than " + str(MAX_FILE_BYTES)))
    else:
        reading.files.append(SourceFile(STDIN_NAME, data))


def _read_path(path: Path, reading: Reading, *, is_one_of_several: bool) -> None:
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 (keeps symbolic links as they are)
    root = git_root(absolute)
    try:
        status = absolute.stat()
    except OSError as error:
        _refuse_missing(path, error, reading)
        return
    if stat.S_ISDIR(status.st_mode):
        is_new = not reading.has_visited(status)
        files = list(_walk(absolute, root or absolute, reading))
        before = path if root is None and is_one_of_several else Path()
        for file in files:
            _read_file(file, (before / _name(file, root or absolute)).as_posix(), reading)
        if is_new and not files:
            hint = "names of files that are read there end in .yaml or .yml"
            reading.warn(str(path), "no-documents", "the folder has no documents", hint)
    else:
        is_inside = not path.is_absolute() and ".." not in path.parts
        name = str(path) if is_inside or is_one_of_several else path.name
        _read_file(absolute, _name(absolute, root) if root else name, reading)


def _refuse_missing(path: Path, error: OSError, reading: Reading) -> None:
    if not isinstance(error, FileNotFoundError):
        reading.refuse(str(path), "unreadable-file", f"cannot be read: {error.strerror}")
        return
    if path.is_symlink():
        reading.refuse(str(path), "unreadable-file",
                       "is a symbolic link to a file that does not exist",
                       f"it points to \"{path.readlink()}\"")  # fmt: skip
        return
    names: list[str] = []
    with suppress(OSError):
        names = [entry.name for entry in path.parent.iterdir()]
    near = get_close_matches(path.name, names, n=1)
    hint = f'did you mean "{path.parent / near[0]}"?' if near else ""
    reading.refuse(str(path), "no-such-file", "there is no such file or folder", hint)


def _walk(folder: Path, root: Path, reading: Reading) -> Iterator[Path]:
    """The YAML files below a folder, by name; each folder once."""
    try:
        if not reading.first_visit(folder.stat()):
            return
        entries = sorted(folder.iterdir())
    except OSError as error:
        reading.refuse(_name(folder, root), "unreadable-file", f"cannot be read: {error.strerror}")
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _walk(entry, root, reading)
        elif is_read(entry.name):
            yield entry


def _read_file(path: Path, name: str, reading: Reading) -> None:
    try:
        # Opening a FIFO would wait for a writer; O_NONBLOCK does not, and we look before reading.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        reading.refuse(name, "unreadable-file", f"cannot be read: {error.strerror}")
        return
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            hint = 'give a file or folder, or "-" for standard input'
            reading.refuse(name, "not-a-file", "is not a regular file", hint)
        elif not reading.first_visit(status):
            return
        elif status.st_size > MAX_FILE_BYTES:
            reading.refuse(name, *_too_large(str(status.st_size)))
        else:
            take(file.read(MAX_FILE_BYTES + 1), name, reading)


def take(data: bytes, name: str, reading: Reading) -> None:
    """Add a file to what was read, unless it is too large or one too many."""
    reading.size_bytes += len(data)
    if len(data) > MAX_FILE_BYTES:
        reading.refuse(name, *_too_large("more than " + str(MAX_FILE_BYTES)))
    elif reading.size_bytes > MAX_SET_BYTES or len(reading.files) >= MAX_FILES:
        limit = f"{MAX_SET_BYTES} bytes or {MAX_FILES} files"
        reading.refuse(name, "set-too-large", f"the set has more than {limit}")
    else:
        reading.files.append(SourceFile(name, data))


def _too_large(size: str) -> tuple[str, str, str]:
    return (
        "file-too-large",
        f"the file has {size} bytes; at most {MAX_FILE_BYTES} are read",
        "split it into several files",
    )


def _name(path: Path, root: Path) -> str:
    name = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
    # Bytes that are no UTF-8 would fail wherever the name is stored or shown.
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
