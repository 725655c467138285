"""A starter folder: the smallest mesh that does something, explained where it stands."""

from dataclasses import dataclass
from pathlib import Path

from mesh.errors import InputError

_FILES = {
    "mesh.yaml": """\
# The one document about the whole mesh. Nobody may call anybody unless a rule says so.
apiVersion: mesh/v1
kind: Mesh
metadata: {name: mesh}
spec:
  access: {default: deny}
""",
    "api.yaml": """\
# A service. Its instances are those that register as "api":
#   mesh sidecar --service api --app 127.0.0.1:8080
apiVersion: mesh/v1
kind: Service
metadata: {name: api}
spec: {protocol: http, port: 80}
---
# Who may call it, and for what.
apiVersion: mesh/v1
kind: AccessPolicy
metadata: {name: api}
spec:
  targetRefs: [{kind: Service, name: api}]
  rules:
    - name: web-reads
      action: allow
      from: [{service: web}]
      to: [{methods: [GET, HEAD]}]
---
# How its callers treat it.
apiVersion: mesh/v1
kind: TrafficPolicy
metadata: {name: api}
spec:
  targetRefs: [{kind: Service, name: api}]
  timeouts: {connect: 1s, request: 10s}
  retry: {attempts: 2, on: [connect-failure, refused-stream, gateway-error]}
""",
    "web.yaml": """\
# The caller. Whatever runs beside its sidecar reaches http://api/:
#   mesh run --service web -- curl http://api/
apiVersion: mesh/v1
kind: Service
metadata: {name: web}
spec: {protocol: http, port: 80}
""",
}


@dataclass(frozen=True, slots=True)
class Starter:
    """What was written, by name, below `folder`."""

    folder: Path
    files: tuple[str, ...]


def write_starter(folder: Path) -> Starter:
    """Write the starter's files into `folder`, which is made if it lacks. Blocks.

    Raises:
        InputError: one of the files is there already, or the folder cannot be written.
    """
    present = [name for name in _FILES if (folder / name).exists()]
    if present:
        raise InputError(
            f'"{folder}" has {", ".join(present)} already; nothing was written',
            "give another folder: mesh init DIR",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in _FILES.items():
            with (folder / name).open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise InputError(f'"{folder}" cannot be written: {error.strerror}') from error
    return Starter(folder, tuple(_FILES))
