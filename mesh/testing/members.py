"""The mesh's own containers: its certificate authority, and sidecars that join by token."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import HttpWaitStrategy, LogMessageWaitStrategy

from mesh.errors import Unavailable
from mesh.testing.consul import ConsulAgentContainer, ConsulContainer
from mesh.testing.etcd import EtcdCluster
from mesh.testing.images import image, require
from mesh.testing.local import LocalContainer

CA_PORT = 8443
FIGURES = 9464
OUTBOUND = 15001
START_SECONDS = 60
POLL_SECONDS = 0.1
_FILES = "/run/mesh"
# What a sidecar says for a service that it does not know, or of which it knows no instance.
_NOBODY = (HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE)


@dataclass(frozen=True, slots=True)
class Servers:
    """What a member of the mesh is told of the servers.

    Without `discovery` instances are registered in the store. `token` is Consul's.
    """

    store: EtcdCluster
    discovery: ConsulContainer | ConsulAgentContainer | None = None
    token: str | None = None

    def environment(self) -> dict[str, str]:
        """MESH_STORE and MESH_DISCOVERY for a container that has `files`."""
        settings = {"MESH_STORE": self.store.inner_store(_FILES)}
        if self.discovery is not None:
            query = f"?token_file={_FILES}/consul.token" if self.token else ""
            settings["MESH_DISCOVERY"] = f"consul://{self.discovery.inside()}{query}"
        return settings

    def files(self) -> dict[str, bytes]:
        """What those settings name, by file name."""
        token = {"consul.token": self.token.encode()} if self.token else {}
        return self.store.files() | token


class _Member(LocalContainer):
    """A container of the mesh's image, hardened as it would be in production."""

    def __init__(
        self,
        network: Network | None,
        name: str,
        ports: Sequence[int],
        servers: Servers,
        command: Sequence[str],
    ) -> None:
        require("mesh")
        super().__init__(image("mesh"), network, name, *ports)
        self.servers = servers
        self.harden({})
        self.with_command(list(command))
        self.with_envs(**servers.environment())
        for file, content in servers.files().items():
            self.with_copy_into_container(content, f"{_FILES}/{file}")

    def harden(self, more: Mapping[str, object]) -> None:
        """No rights, and `more` words for the engine."""
        self.with_kwargs(init=True, cap_drop=["ALL"], security_opt=["no-new-privileges"], **more)

    def mesh(self, *words: str) -> str:
        """What `mesh WORDS` prints inside the container.

        Raises:
            Unavailable: it failed; with its words.
        """
        done = self.exec(["mesh", *words])
        said = done.output.decode(errors="replace")
        if done.exit_code:
            raise Unavailable(f"mesh {words[0]} ended with {done.exit_code}: {said.strip()}")
        return said


class CAContainer(_Member):
    """The certificate authority as a service, reached as `name` by the containers of `network`."""

    def __init__(self, network: Network, servers: Servers, *, name: str = "ca") -> None:
        command = [
            *("ca", "serve", "--listen", f"0.0.0.0:{CA_PORT}", "--name", name),
            *("--metrics", f"0.0.0.0:{FIGURES}"),
        ]
        super().__init__(network, name, (FIGURES,), servers, command)
        ready = HttpWaitStrategy(FIGURES, "/healthz").for_status_code(200)
        self.waiting_for(ready.with_startup_timeout(START_SECONDS).with_poll_interval(POLL_SECONDS))

    def url(self) -> str:
        """MESH_CA for containers of the network: where it is and how it is known."""
        for line in self.get_logs()[0].decode().splitlines():
            if line.startswith("ready "):
                return line.split()[1].removeprefix("ca=")
        raise Unavailable("the certificate authority has not said that it serves")

    def join_token(self, service: str, namespace: str = "default") -> str:
        """A new token by which one host may join as `service`."""
        words = ("--service", service, "--namespace", namespace, "--output", "json")
        return str(json.loads(self.mesh("token", "create", *words))["token"])


class SidecarContainer(_Member):
    """A sidecar that joins as `service` and is ready when its container has started.

    With `app` (`HOST:PORT` as the sidecar sees it) it serves that program; without, it only
    calls. It runs `beside` another container, on whose network it is: so an app that listens on
    its loopback address is reached by its sidecar alone. Without `beside` it is on `network`
    itself, and its outbound listener is published: `outbound()` is where a test calls the mesh.
    `options` are further words of `mesh sidecar`.
    """

    def __init__(
        self,
        network: Network,
        ca: CAContainer,
        service: str,
        *,
        namespace: str = "default",
        app: str | None = None,
        beside: DockerContainer | None = None,
        options: Sequence[str] = (),
    ) -> None:
        is_alone = beside is None
        host = "0.0.0.0" if is_alone else "127.0.0.1"  # noqa: S104 - in a container of its own
        command = [
            *("sidecar", "--service", service, "--namespace", namespace),
            *("--outbound", f"{host}:{OUTBOUND}", *(("--app", app) if app else ()), *options),
        ]
        ports = (OUTBOUND,) if is_alone else ()
        super().__init__(network if is_alone else None, service, ports, ca.servers, command)
        if beside is not None:
            self.harden({"network_mode": f"container:{beside.get_container_id()}"})
        self.with_envs(MESH_CA=ca.url(), MESH_TOKEN_FILE=f"{_FILES}/join.token")
        token = ca.join_token(service, namespace).encode()
        self.with_copy_into_container(token, f"{_FILES}/join.token")
        ready = LogMessageWaitStrategy("ready service=")
        self.waiting_for(ready.with_startup_timeout(START_SECONDS).with_poll_interval(POLL_SECONDS))

    def outbound(self) -> str:
        """`host:port` on this machine where a test calls services by `Host`; not with `beside`."""
        return self.published(OUTBOUND)

    def wait_for(self, service: str) -> None:
        """Return once `service` answers calls through this sidecar, whatever its status: an
        instance is known to its callers a moment after it has registered. Not with `beside`.

        Raises:
            TimeoutError: nothing answered for it in time.
        """
        known = HttpWaitStrategy(OUTBOUND, "/").with_header("host", service)
        known = known.for_status_code_matching(lambda status: status not in _NOBODY)
        known.with_startup_timeout(START_SECONDS).with_poll_interval(POLL_SECONDS).wait_until_ready(
            self
        )
