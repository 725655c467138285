"""Whether the sidecars of this host serve: what a container's health check asks.

It is asked every few seconds, so `python -m mesh.cli.health` loads nothing but a few modules of
the standard library. It knows sidecars by what they leave on disk: a folder each with the
bootstrap of their Envoy, which names the admin socket.
"""

import json
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_SECONDS = 2.0
OUTSIDE = 3


@dataclass(frozen=True, slots=True)
class Health:
    """One sidecar: `reason` is Envoy's own word (`LIVE`, `DRAINING`, ...) or the failure."""

    id: str
    is_serving: bool
    reason: str


def examine(state: Path, id: str | None = None) -> list[Health]:
    """The sidecars below `state` whose Envoys run, or the one named `id`.

    An Envoy whose agent is dead counts: it serves. One that nobody answers for is left out
    unless it was named, for an id that is no longer used leaves its folder behind.
    """
    folders = sorted((state / "sidecars").glob("*/bootstrap.json"))
    found = [ask(path) for path in folders if id is None or path.parent.name == id]
    answering = [health for health in found if health is not None]
    if id is not None and not answering:
        return [Health(id, False, "no Envoy answers")]
    return answering


def ask(bootstrap: Path) -> Health | None:
    """One Envoy's own answer to `/ready`; None where nobody listens."""
    id = bootstrap.parent.name
    try:
        place = json.loads(bootstrap.read_bytes())["admin"]["address"]["pipe"]["path"]
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT_SECONDS)
            connection.connect(place)
            connection.sendall(b"GET /ready HTTP/1.1\r\nhost: envoy\r\nconnection: close\r\n\r\n")
            answer = b""
            while part := connection.recv(4096):
                answer += part
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Health(id, False, str(error) or type(error).__name__)
    head, _, body = answer.partition(b"\r\n\r\n")
    words = body.split()
    # The body may be chunked: Envoy's word is the one in capitals.
    reason = next((word.decode() for word in words if word.isupper()), "no answer")
    return Health(id, head.startswith(b"HTTP/1.1 200 "), reason)


def is_healthy(found: list[Health]) -> bool:
    """Whether there is a sidecar, and each one serves."""
    return bool(found) and all(health.is_serving for health in found)


def line(health: Health) -> str:
    """One sidecar in words."""
    return f"{health.id}: {'serving' if health.is_serving else 'not serving'} ({health.reason})"


def main(environment: Mapping[str, str]) -> int:
    """Check the sidecars below MESH_STATE, for a container's health check; the exit code."""
    state = environment.get("MESH_STATE", "/var/lib/mesh")
    found = examine(Path(state))
    words = [line(health) for health in found] or [f"no sidecar runs below {state}"]
    sys.stdout.write("\n".join(words) + "\n")
    return 0 if is_healthy(found) else 1


if __name__ == "__main__":
    sys.exit(main(os.environ))
