"""Consul in containers: a server, and the client agents that hosts talk to, with access rules."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping

from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import HttpWaitStrategy

from mesh.errors import Unavailable
from mesh.testing.images import image, require
from mesh.testing.local import LocalContainer

HTTP = 8500
START_SECONDS = 60
POLL_SECONDS = 0.1
_CONFIG = "/etc/mesh-consul.json"
_ANSWER_SECONDS = 10
# What a host's sidecars do: register any service of theirs, read the others.
RULES = """
service_prefix "" { policy = "write" }
node_prefix "" { policy = "read" }
"""
# What an agent does for itself.
AGENT_RULES = """
node_prefix "" { policy = "write" }
service_prefix "" { policy = "read" }
"""


class _Agent(LocalContainer):
    """What servers and clients have in common."""

    def __init__(
        self, network: Network, name: str, arguments: list[str], config: Mapping[str, object]
    ) -> None:
        require("consul")
        super().__init__(image("consul"), network, name, HTTP)
        self.with_copy_into_container(json.dumps(config).encode(), _CONFIG)
        self.with_command(
            [
                *("agent", f"-node={name}", "-data-dir=/tmp/consul", "-client=0.0.0.0"),
                *(f"-config-file={_CONFIG}", "-log-level=warn", *arguments),
            ]
        )
        # The body is `""` until there is a leader; that a socket listens says nothing.
        ready = HttpWaitStrategy(HTTP, "/v1/status/leader").for_status_code(200)
        ready = ready.for_response_predicate(lambda body: ":" in body)
        self.waiting_for(ready.with_startup_timeout(START_SECONDS).with_poll_interval(POLL_SECONDS))

    def inside(self) -> str:
        """`name:port` for the containers of the network."""
        return f"{self.name}:{HTTP}"

    def outside(self) -> str:
        """`host:port` for this machine."""
        return self.published(HTTP)

    def ask(self, method: str, path: str, body: object = None, token: str | None = None) -> object:
        """One request to this agent's HTTP interface; its JSON.

        Raises:
            Unavailable: it was refused or not answered.
        """
        request = urllib.request.Request(
            f"http://{self.outside()}/v1/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"x-consul-token": token} if token else {},
        )
        try:
            with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as answer:  # noqa: S310
                text = answer.read()
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")
            raise Unavailable(f"Consul answers {error.code} to {path}: {said}") from error
        except OSError as error:
            raise Unavailable(f"Consul does not answer to {path}: {error}") from error
        return json.loads(text) if text.strip() else None


class ConsulContainer(_Agent):
    """A server that elects itself, reached as `name` by the containers of `network`.

    With `acl` nothing is allowed without a token: `management` may do everything, `token` what a
    host's sidecars do. Both are known once it has started.
    """

    def __init__(self, network: Network, *, name: str = "consul", acl: bool = False) -> None:
        super().__init__(
            network, name, ["-server", "-bootstrap-expect=1"], _configuration(has_acl=acl)
        )
        self.has_acl = acl
        self.management: str | None = None
        self.token: str | None = None
        self.agent_token: str | None = None

    def start(self) -> "ConsulContainer":
        """Start it; with access rules, make its tokens."""
        super().start()
        if self.has_acl:
            self._make_tokens()
        return self

    def _make_tokens(self) -> None:
        self.management = _text(self.ask("PUT", "acl/bootstrap"), "SecretID")
        self.agent_token = self.make_token("agents", AGENT_RULES)
        self.token = self.make_token("sidecars", RULES)
        body = {"Token": self.agent_token}
        self.ask("PUT", "agent/token/agent", body, self.management)

    def make_token(self, name: str, rules: str) -> str:
        """A new token that may do what `rules` (HCL) say; needs `acl`."""
        self.ask("PUT", "acl/policy", {"Name": name, "Rules": rules}, self.management)
        body = {"Description": name, "Policies": [{"Name": name}]}
        return _text(self.ask("PUT", "acl/token", body, self.management), "SecretID")


class ConsulAgentContainer(_Agent):
    """A client agent of `server`: what each host of a real datacenter runs."""

    def __init__(
        self, network: Network, server: ConsulContainer, *, name: str = "consul-agent"
    ) -> None:
        config = _configuration(has_acl=server.has_acl, token=server.agent_token)
        super().__init__(network, name, [f"-retry-join={server.name}"], config)


def _configuration(*, has_acl: bool, token: str | None = None) -> dict[str, object]:
    """An agent's own settings; the words are those of Consul 1.8 and later."""
    config: dict[str, object] = {
        "disable_update_check": True,
        "performance": {"raft_multiplier": 1},  # elects itself sooner
    }
    if has_acl:
        tokens = {"tokens": {"agent": token}} if token else {}
        config["acl"] = {"enabled": True, "default_policy": "deny", **tokens}
    return config


def _text(answer: object, key: str) -> str:
    if not isinstance(answer, dict) or not isinstance(answer.get(key), str):
        raise Unavailable(f'Consul\'s answer has no "{key}": {answer!r}')
    return str(answer[key])
