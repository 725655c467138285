"""What all containers of a test have in common: their ports are this machine's own."""

import os
from typing import Any
from urllib.parse import urlsplit

from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

LOOPBACK = "127.0.0.1"


class LocalContainer(DockerContainer):
    """A container of `network`, reached there as `name`, whose ports are published on the
    loopback address only; without a network it has none of its own.

    An engine elsewhere (`DOCKER_HOST=tcp://...`) publishes on all of its addresses instead.
    """

    def __init__(self, image: str, network: Network | None, name: str, *ports: int) -> None:
        super().__init__(image)
        self.name = name
        self._host = urlsplit(os.environ.get("DOCKER_HOST", "")).hostname
        if network is not None:
            self.with_network(network).with_network_aliases(name)
        published: dict[str, Any] = self.ports
        for port in ports:
            published[f"{port}/tcp"] = (LOOPBACK, None) if self._host is None else None

    def get_container_host_ip(self) -> str:
        """Where its published ports are; testcontainers would guess, and not the loopback."""
        return self._host or LOOPBACK

    def published(self, port: int) -> str:
        """`host:port` on this machine of a port of the container."""
        return f"{self.get_container_host_ip()}:{self.get_exposed_port(port)}"
