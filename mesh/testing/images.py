"""Which images the containers run, and that they are there before anything is started."""

import os
import socket
from typing import Final

import docker
from docker.errors import DockerException, ImageNotFound

from mesh.errors import OutsideError

# What `make images` builds where there is no image registry; the variable names another one.
VARIABLES: Final = {
    "mesh": ("MESH_IMAGE", "mesh:dev"),
    "etcd": ("MESH_ETCD_IMAGE", "mesh-etcd:dev"),
    "consul": ("MESH_CONSUL_IMAGE", "mesh-consul:dev"),
    "prometheus": ("MESH_PROMETHEUS_IMAGE", "mesh-prometheus:dev"),
    "redis": ("MESH_REDIS_IMAGE", "mesh-redis:dev"),
}
_ENGINE_SECONDS = 10
_SOCKET = "unix:///var/run/docker.sock"


def image(name: str) -> str:
    """The image of a program or server named in `VARIABLES`: what its variable says, or our own."""
    variable, default = VARIABLES[name]
    return os.environ.get(variable) or default


def missing(*names: str) -> str | None:
    """Why containers of these images cannot start, with the remedy; None: they can.

    The engine would try to pull a missing image and say that some host is unknown.
    """
    try:
        _knock()
        client = docker.from_env(timeout=_ENGINE_SECONDS)
    except (OSError, DockerException) as error:
        return f"no Docker engine answers ({error}); start one"
    try:
        for name in names:
            try:
                client.images.get(image(name))
            except ImageNotFound:
                variable, _ = VARIABLES[name]
                return f'there is no image "{image(name)}"; run: make images (or set {variable})'
    except DockerException as error:
        return f"the Docker engine fails: {error}"
    finally:
        client.close()
    return None


def require(*names: str) -> None:
    """Return if containers of these images can start.

    Raises:
        OutsideError: they cannot, with what to do.
    """
    if reason := missing(*names):
        fault, _, remedy = reason.partition("; ")
        raise OutsideError(fault, remedy)


def _knock() -> None:
    """Raise an OSError where nobody listens on the engine's Unix socket: the client's library
    would say so, too, and leave a socket of its own open.
    """
    scheme, _, path = os.environ.get("DOCKER_HOST", _SOCKET).partition("://")
    if scheme != "unix":
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_ENGINE_SECONDS)
        probe.connect(path)
