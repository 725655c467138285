"""etcd and Consul clusters whose members live on sites of their own."""

import json
import os
import re
import subprocess
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.faults.sites import Site
from tests.support.servers import Server, require

CLIENT, PEER = 2379, 2380
SECONDS = 60


@dataclass
class Etcd:
    """An etcd cluster of one member per site; on one address each has ports of its own."""

    folder: Path
    sites: Sequence[Site]
    ports: Sequence[int]
    extra: Sequence[str] = ()
    members: list[Server] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.members = [self._member(at) for at in range(len(self.sites))]

    @property
    def endpoints(self) -> list[str]:
        """`host:port` of each member."""
        return [f"{site.address}:{self.ports[at]}" for at, site in enumerate(self.sites)]

    @property
    def peers(self) -> list[str]:
        """The URL of each member for the others."""
        size = len(self.sites)
        return [f"http://{s.address}:{self.ports[size + n]}" for n, s in enumerate(self.sites)]

    def data(self, at: int) -> Path:
        """A member's data."""
        return self.folder / f"m{at}.etcd"

    def _member(self, at: int, state: str = "new") -> Server:
        client, peer = f"http://{self.endpoints[at]}", self.peers[at]
        cluster = ",".join(f"m{n}={url}" for n, url in enumerate(self.peers))
        command: list[str | Path] = [
            *self.sites[at].prefix,
            require("etcd"),
            f"--name=m{at}",
            f"--data-dir={self.data(at)}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster={cluster}",
            f"--initial-cluster-state={state}",
            "--log-level=warn",
            *self.extra,
        ]
        environment = {"PATH": os.environ.get("PATH", "")}
        url = f"{client}/health"
        return Server(
            command, self.endpoints[at], self.folder / f"m{at}.log", probe(url), environment
        )

    def replaced(self, at: int) -> Server:
        """The member again, for a cluster that exists."""
        self.members[at] = self._member(at, "existing")
        return self.members[at]

    def start(self) -> None:
        """Start every member and wait for the quorum."""
        for member in self.members:
            member.start()
        for member in self.members:
            member.wait_ready()

    def stop(self) -> None:
        """End every member."""
        for member in self.members:
            member.stop()

    def ctl(self, *arguments: str, at: int | None = None) -> str:
        """`etcdctl` on one member, or with all of them."""
        endpoints = self.endpoints if at is None else [self.endpoints[at]]
        done = subprocess.run(
            [
                require("etcd").with_name("etcdctl"),
                f"--endpoints={','.join(endpoints)}",
                *arguments,
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
            env={"ETCDCTL_API": "3", "PATH": os.environ.get("PATH", "")},
        )
        if done.returncode != 0:
            raise OSError(f"etcdctl {arguments}: {done.stderr.strip()}")
        return done.stdout

    def leader(self) -> int:
        """The member that leads now."""
        for at in range(len(self.sites)):
            found = json.loads(self.ctl("endpoint", "status", "-w", "json", at=at))
            status = found[0]["Status"]
            if status["leader"] == status["header"]["member_id"]:
                return at
        raise OSError("no member leads")

    def member_id_from(self, asked: int, at: int) -> str:
        """The id of a member in hexadecimal, as another one knows it."""
        for line in self.ctl("member", "list", at=asked).splitlines():
            if re.search(rf"\bm{at}\b", line):
                return line.split(",")[0]
        raise OSError(f"m{at} is no member")

    def revision(self) -> int:
        """The store's revision in etcd's own counting."""
        found = json.loads(self.ctl("get", "none", "-w", "json"))
        return int(found["header"]["revision"])

    def with_extra(self, *extra: str) -> "Etcd":
        """The same data with other flags; start it when this one has stopped."""
        return replace(self, extra=extra, members=[])


def probe(url: str):  # type: ignore[no-untyped-def]
    """A probe for `Server`: the URL answers 200."""

    def ask() -> None:
        with urllib.request.urlopen(url, timeout=2) as answer:
            if answer.read().strip() in (b"", b'""'):
                raise OSError("nothing yet")

    return ask


@dataclass
class Consul:
    """Three servers and a client agent, all on loopback addresses of their own ports."""

    folder: Path
    ports: Sequence[int]
    servers: list[Server] = field(default_factory=list)
    client: Server = field(init=False)

    def __post_init__(self) -> None:
        joins = [f"-retry-join=127.0.0.1:{self._lan(n)}" for n in range(3)]
        timing = ["-retry-interval=1s", *joins]
        self.servers = [self._agent(n, "-server", "-bootstrap-expect=3", *timing) for n in range(3)]
        self.client = self._agent(3, *timing)

    def _lan(self, at: int) -> int:
        return self.ports[6 * at + 2]

    def _agent(self, at: int, *flags: str) -> Server:
        http, dns, lan, wan, rpc, grpc = self.ports[6 * at : 6 * at + 6]
        configuration = self.folder / f"c{at}.json"
        # Elections as quick as on machines of one room.
        configuration.write_text(json.dumps({"performance": {"raft_multiplier": 1}}))
        command: list[str | Path] = [
            require("consul"),
            "agent",
            f"-config-file={configuration}",
            f"-data-dir={self.folder / f'c{at}'}",
            f"-node=c{at}",
            "-bind=127.0.0.1",
            "-client=127.0.0.1",
            "-log-level=warn",
            "-disable-host-node-id",
            f"-http-port={http}",
            f"-dns-port={dns}",
            f"-serf-lan-port={lan}",
            f"-serf-wan-port={wan}",
            f"-server-port={rpc}",
            f"-grpc-port={grpc}",
            *flags,
        ]
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": os.fspath(self.folder)}
        url = f"http://127.0.0.1:{http}/v1/status/leader"
        return Server(
            command, f"127.0.0.1:{http}", self.folder / f"c{at}.log", probe(url), environment
        )

    def start(self) -> None:
        """Start all and wait for a leader."""
        for agent in (*self.servers, self.client):
            agent.start()
        for agent in (*self.servers, self.client):
            agent.wait_ready()

    def stop(self) -> None:
        """End all."""
        for agent in (self.client, *self.servers):
            agent.stop()

    def leader(self) -> Server:
        """The server that leads now."""
        url = f"http://{self.client.endpoint}/v1/status/leader"
        with urllib.request.urlopen(url, timeout=5) as answer:
            port = int(json.loads(answer.read()).rsplit(":", 1)[1])
        at = next(n for n in range(3) if self.ports[6 * n + 4] == port)
        return self.servers[at]
