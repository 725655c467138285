"""The commands of the documentation, taken from the pages themselves and run as a reader would.

A fenced block in `sh` is what is typed: lines with `$ ` are commands and what follows them is
what they print, where `...` stands for lines left out; a block without any `$ ` is not typed. All
blocks of a page run in order in one shell, in a fresh folder with a fresh MESH_STATE. What must
differ from run to run (ports, times, fingerprints) is compared by shape, JSON by its keys.

    python -m tests.support.doc_blocks README.md [WORD=OTHER ...]

rewrites what the commands print; each WORD is typed as OTHER, and shown as WORD.
"""

import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mesh.adapters.envoy.process import Record

ROOT: Final = Path(__file__).resolve().parents[2]
SECONDS = 60.0
HOME: Final = "/home/ana"  # the page's name for the folder
ELLIPSIS: Final = "..."
_DONE: Final = "--- doc_blocks: done"
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
# What bash says about jobs in the background.
_JOB = re.compile(r"^(\[\d+\][-+ ].*|\S*bash: line \d+:\s+\d+ (Terminated|Killed).*)$")

# What differs from run to run, and what stands for it.
_SHAPES: Final = (
    (re.compile(r"(\d+\.\d+\.\d+\.\d+):\d+"), r"\1:PORT"),
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|\+00:00)"), "TIME"),
    (re.compile(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT"), "TIME"),
    (re.compile(r"\d{4}-\d\d-\d\d"), "DATE"),
    (re.compile(r"sha256:[0-9a-f]+"), "sha256:X"),
    (re.compile(r"mesh_join_\S+"), "mesh_join_X"),
    (re.compile(r"\b[0-9a-f]{12}\b"), "ID"),
    (re.compile(r"\d+ MiB"), "N MiB"),
    (re.compile(r"\b(SQLite|etcd|Python) \d+[.\d]*"), r"\1 VERSION"),
    (re.compile(r'"/[^"]*"'), '"/PATH"'),
    (re.compile(r"(:1:1: |below )/\S+"), r"\1/PATH"),
    (re.compile(r" {2,}"), "  "),
)


@dataclass(frozen=True, slots=True)
class Command:
    """What is typed, at `line` of its page, and what it prints."""

    text: str
    line: int
    printed: str


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block under the nearest heading above it."""

    language: str
    text: str
    line: int
    heading: str

    def commands(self) -> list[Command]:
        """The commands of a block of `sh`; none where it shows no prompt."""
        if not self.text.startswith("$ "):
            return []
        found: list[tuple[str, int, list[str]]] = []
        for number, line in enumerate(self.text.splitlines(), self.line):
            if line.startswith("$ "):
                found.append((line[2:], number, []))
            elif found[-1][0].endswith("\\") and not found[-1][2]:
                found[-1] = (f"{found[-1][0]}\n{line}", found[-1][1], [])
            else:
                found[-1][2].append(line)
        return [Command(text, at, "\n".join(lines)) for text, at, lines in found]


def blocks(page: Path, language: str = "sh") -> list[Block]:
    """The fenced blocks of a page in `language`, in order."""
    text = page.read_text(encoding="utf-8")
    headings = [(found.start(), found[1]) for found in _HEADING.finditer(text)]
    return [
        Block(
            language,
            found[2],
            text.count("\n", 0, found.start(2)) + 1,
            next((name for at, name in reversed(headings) if at < found.start()), ""),
        )
        for found in _FENCE.finditer(text)
        if found[1] == language
    ]


def shape(text: str) -> str:
    """The text without what differs from run to run."""
    host = re.escape(socket.gethostname().split(".")[0].lower())
    text = re.sub(rf"(?<![\w-]){host}(?=-\w+-|\b)", "vm", text)
    for pattern, word in _SHAPES:
        text = pattern.sub(word, text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def has_keys(printed: Any, expected: Any) -> bool:
    """Whether a JSON value has the keys and types of the page's, of a list in its first item;
    it may have further ones, and null stands for any value.
    """
    match expected, printed:
        case dict(), dict():
            return all(
                name in printed and has_keys(printed[name], item) for name, item in expected.items()
            )
        case list(), list():
            return all(map(has_keys, printed[:1], expected[:1]))
        case (None, _) | (_, None):
            return True
        case _:
            return type(expected) is type(printed)


def agrees(printed: str, expected: str) -> bool:
    """Whether what was printed is what the page says, but for what differs from run to run."""
    with suppress(ValueError):
        if isinstance(said := json.loads(expected), dict | list):
            return has_keys(json.loads(printed), said)
    parts = shape(expected).split(f"\n{ELLIPSIS}\n")
    wanted = [re.escape(part) for part in parts]
    pattern = r"\n(?:.*\n)*".join(wanted)
    if pattern.endswith(end := re.escape(f"\n{ELLIPSIS}")):
        pattern = pattern.removesuffix(end) + r"\n[\s\S]*"
    return re.fullmatch(pattern, shape(printed)) is not None


@dataclass
class Shell:
    """A bash in `folder`, with mesh on its PATH and a state of its own."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MESH_")}
        binaries = f"{Path(sys.executable).parent}:{ROOT / '.tools/bin'}:{os.environ['PATH']}"
        self._process = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            env=kept
            | {"PATH": binaries, "MESH_STATE": str(self.folder / "state"), "LOGNAME": "ana"}
            | {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
            | {"PYTHONUNBUFFERED": "1", "TERM": "dumb"}
            | dict(self.environment),
            start_new_session=True,
        )
        self._unread = b""
        self._write("set -m")

    def run(self, text: str, lines: int = 0) -> tuple[str, int]:
        """Type a command; what it prints (both streams), and its exit code.

        One that stays in the background has time to print `lines` lines.
        """
        self._write(f"{text}\nprintf '%s %d\\n' '\n{_DONE}' $?")
        printed = ""
        code = None
        while code is None or (text.endswith("&") and printed.count("\n") < lines):
            line = self._line(f"{text}\n{printed}")
            if line.startswith(_DONE):
                code = int(line.removeprefix(_DONE))
                printed = printed.removesuffix("\n")
                printed += "\n" if printed else ""
            elif not _JOB.match(line):
                printed += line + "\n"
        return printed.rstrip("\n").replace(str(self.folder), HOME), code

    def close(self) -> None:
        """End the shell, what it left in the background, and the Envoys of its state."""
        with suppress(BrokenPipeError):
            self._write("kill $(jobs -p) 2>/dev/null; wait; exit")
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(SECONDS)
        for process in _session(self._process.pid):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self._process.wait(SECONDS)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()
        for file in self.folder.glob("**/sidecars/*/envoy.json"):
            if (record := Record.read(file)) is not None:
                record.process.signal(signal.SIGKILL)

    def _write(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{text}\n".encode())
        self._process.stdin.flush()

    def _line(self, context: str) -> str:
        """The next line that something printed."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + SECONDS
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self._process.stdout], [], [], max(left, 0))
            part = os.read(self._process.stdout.fileno(), 65536) if ready else b""
            assert part, f"the shell says nothing more after:\n{context}"
            self._unread += part
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode(errors="replace")


def _session(leader: int) -> Iterator[int]:
    """The processes of a session that are left."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with suppress(OSError):
                if os.getsid(int(folder.name)) == leader:
                    yield int(folder.name)


@contextmanager
def shell(environment: Mapping[str, str] | None = None) -> Iterator[Shell]:
    """A shell in a fresh folder, both gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="doc-"))
    one = Shell(folder, environment or {})
    try:
        yield one
    finally:
        one.close()
        shutil.rmtree(folder, ignore_errors=True)


def replace(text: str, words: Mapping[str, str]) -> str:
    """The text with words of the page (ports and the like) replaced, all at once."""
    if not words:
        return text
    longest = sorted(words, key=len, reverse=True)
    known = re.compile("|".join(rf"(?<!\d){re.escape(word)}(?!\d)" for word in longest))
    return known.sub(lambda found: words[found[0]], text)


def _typed(run: Shell, command: Command, words: Mapping[str, str]) -> str:
    """What the command prints, in the words of its page."""
    text = replace(command.text, words)
    printed, _ = run.run(text, len(command.printed.splitlines()))
    return replace(printed, {other: word for word, other in words.items()})


def differences(typed: Sequence[Block], words: Mapping[str, str]) -> list[str]:
    """Where a page and today's output differ, typing its blocks in order with `words` replaced."""
    found = []
    with shell() as run:
        for block in typed:
            for command in block.commands():
                printed = _typed(run, command, words)
                if not agrees(printed, command.printed):
                    found.append(f"{command.line}: $ {command.text}\n{shape(printed)}")
    return found


def rewrite(page: Path, words: Mapping[str, str]) -> None:
    """Put what the commands of a page print today in the place of what it says."""
    lines = page.read_text(encoding="utf-8").splitlines()
    out: list[tuple[int, int, list[str]]] = []
    with shell() as run:
        for block in blocks(page):
            for command in block.commands():
                printed = _typed(run, command, words)
                if ELLIPSIS not in command.printed.splitlines():
                    first = command.line + command.text.count("\n")
                    last = first + len(command.printed.splitlines())
                    out.append((first, last, printed.splitlines()))
    for first, last, printed_lines in reversed(out):
        lines[first:last] = printed_lines
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    rewrite(Path(sys.argv[1]), dict(word.split("=", 1) for word in sys.argv[2:]))
