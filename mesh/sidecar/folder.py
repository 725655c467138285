"""A sidecar's own place on disk: `<state>/sidecars/<id>/`, held by one agent at a time.

Folders are 0700 and files 0600 whatever the umask. The lock is the kernel's (`flock`), so that it
falls with the process however that ends, and the next agent finds the id free and adopts what
runs there.
"""

import fcntl
import hashlib
import json
import os
import socket
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mesh.errors import Conflict, OutOfSpace, OutsideError, Unavailable
from mesh.model.identity import ServiceName

# `sun_path` holds 108 bytes with its NUL; gRPC and Envoy both refuse longer ones.
SOCKET_PATH_MAX_BYTES = 107
_LONGEST_SOCKET = "/admin.sock"
_ENOSPC = 28


@dataclass(frozen=True, slots=True)
class Folder:
    """The folder of the sidecar `id`, locked while `close` is not called.

    `sockets` is where its Unix sockets lie: the folder itself, or a short one where their paths
    would not fit.
    """

    id: str
    path: Path
    sockets: Path
    _lock: int = field(repr=False)

    @property
    def ads_socket(self) -> Path:
        """Where Envoy finds its configuration."""
        return self.sockets / "ads.sock"

    @property
    def admin_socket(self) -> Path:
        """Where Envoy is administered."""
        return self.sockets / "admin.sock"

    def close(self) -> None:
        """Give the id back."""
        os.close(self._lock)


def take(state: Path, service: ServiceName, id: str | None = None) -> Folder:
    """Lock the folder of `id`; without one, `<host>-<namespace>-<service>-<n>` with the lowest n
    that nobody holds. Blocks for a few file system calls.

    Raises:
        Conflict: another agent holds `id`.
        OutsideError: the state folder is not ours or cannot be written.
    """
    if not state.exists():
        _make_state(state)
    root = private_folder(state / "sidecars")
    if id is not None:
        folder = _lock_folder(root, id)
        if folder is None:
            raise Conflict(
                f'a sidecar with the id "{id}" runs already',
                hint="stop it, or give this one another --id",
            )
        return folder
    stem = f"{_host_label()}-{service.namespace}-{service.name}"
    n = 1
    while (folder := _lock_folder(root, f"{stem}-{n}")) is None:
        n += 1
    return folder


def private_folder(path: Path) -> Path:
    """Make `path` a folder that only its owner enters.

    Raises:
        OutsideError: it is something else, somebody else's, or cannot be made.
    """
    try:
        path.mkdir(exist_ok=True, mode=0o700)
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise OutsideError(f'"{path}" is not a folder of user {os.geteuid()}')
        path.chmod(stat.S_IRWXU)
    except OSError as error:
        raise disk_error(path, error) from error
    return path


def disk_error(path: Path, error: OSError) -> OutsideError:
    """What a failed file operation means to the user."""
    if error.errno == _ENOSPC:
        return OutOfSpace(f'no space left for "{path}"', hint="free some and start again")
    reason = error.strerror or type(error).__name__
    return Unavailable(
        f'cannot use "{path}": {reason.lower()}',
        hint="MESH_STATE names a folder that this user may write",
    )


def write_document(path: Path, content: Mapping[str, Any]) -> None:
    """Replace `path` as a whole by JSON under a checksum: after a power cut it is old or new.

    Raises:
        OutsideError: the disk refused it; the old file stays.
    """
    body = json.dumps(content, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(body.encode()).hexdigest()
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:  # mkstemp makes it 0600
                file.write(f"{digest}\n{body}")
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise disk_error(path, error) from error


def read_document(path: Path) -> dict[str, Any] | None:
    """What `write_document` wrote; None where there is nothing, or nothing whole."""
    try:
        digest, _, body = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    if hashlib.sha256(body).hexdigest().encode() != digest:
        return None
    content = json.loads(body)
    return content if isinstance(content, dict) else None


def _make_state(state: Path) -> None:
    try:
        state.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(state, error) from error
    private_folder(state)


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _lock_folder(root: Path, id: str) -> Folder | None:
    path = private_folder(root / id)
    try:
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise disk_error(path, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return Folder(id=id, path=path, sockets=_sockets(path), _lock=lock)


def _sockets(path: Path) -> Path:
    """The folder itself, or a short one named after it: the same for every agent of the id."""
    if len(os.fsencode(f"{path}{_LONGEST_SOCKET}")) <= SOCKET_PATH_MAX_BYTES:
        return path
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    short = Path(runtime) / "mesh" if runtime else Path(f"/tmp/mesh-{os.geteuid()}")  # noqa: S108 - made 0700 and checked to be ours
    name = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:16]
    return private_folder(private_folder(short) / name)


def _host_label() -> str:
    """The host's name as one RFC 1123 label."""
    short = socket.gethostname().split(".")[0].lower()
    label = "".join(c if c.isascii() and c.isalnum() else "-" for c in short).strip("-")
    return label or "host"
