"""etcd in containers: one member or several, with TLS and access rules as in production."""

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import HttpWaitStrategy

from mesh.demo.certificates import ServerAuthority
from mesh.errors import Unavailable
from mesh.testing.images import image, require
from mesh.testing.local import LocalContainer

CLIENTS = 2379
PEERS = 2380
HEALTH = 2381
START_SECONDS = 60
POLL_SECONDS = 0.1
ROOT = "root"
USER = "mesh"
PREFIX = "mesh"
_TLS = "/etc/etcd-tls"
_DATA = "/tmp/etcd"  # noqa: S108 - in a container of its own


class EtcdContainer(LocalContainer):
    """One member, reached as `name` by the containers of `network`.

    With `authority` it speaks TLS to clients and peers and asks both for a certificate of it;
    `members` are the names of all members of its cluster; one that is not `is_awaited` may start
    before the others.
    """

    def __init__(
        self,
        network: Network,
        *,
        name: str = "etcd",
        members: tuple[str, ...] = (),
        authority: ServerAuthority | None = None,
        is_awaited: bool = True,
    ) -> None:
        require("etcd")
        super().__init__(image("etcd"), network, name, CLIENTS, HEALTH)
        self.authority = authority
        self._scheme = "https" if authority else "http"
        members = members or (name,)
        self.with_command(["etcd", *self._flags(members), *self._tls_flags()])
        ready = HttpWaitStrategy(HEALTH, "/health").for_status_code(200)
        # A member that died at its start would be waited for two minutes.
        self.ready = ready.with_startup_timeout(START_SECONDS).with_poll_interval(POLL_SECONDS)
        if is_awaited:
            self.waiting_for(self.ready)

    def inside(self) -> str:
        """`name:port` for the containers of the network."""
        return f"{self.name}:{CLIENTS}"

    def outside(self) -> str:
        """`host:port` for this machine."""
        return self.published(CLIENTS)

    def etcdctl(self, *words: str) -> str:
        """What `etcdctl` says inside the container, as the user root.

        Raises:
            Unavailable: it failed; with its words.
        """
        flags = [f"--endpoints={self._scheme}://127.0.0.1:{CLIENTS}"]
        if self.authority:
            flags += [
                f"--cacert={_TLS}/ca.pem",
                f"--cert={_TLS}/root.pem",
                f"--key={_TLS}/root.key",
            ]
        done = self.exec(["etcdctl", *flags, *words])
        said = done.output.decode(errors="replace")
        if done.exit_code:
            raise Unavailable(f"etcdctl {' '.join(words)} failed: {said.strip()}")
        return said

    def is_leader(self) -> bool:
        """Whether this member leads its cluster."""
        fields = self.etcdctl("endpoint", "status", "--write-out=fields")
        values = dict(line.split(" : ", 1) for line in fields.splitlines() if " : " in line)
        return values['"MemberID"'] == values['"Leader"']

    def _flags(self, members: tuple[str, ...]) -> list[str]:
        cluster = ",".join(f"{member}={self._scheme}://{member}:{PEERS}" for member in members)
        return [
            f"--name={self.name}",
            f"--data-dir={_DATA}",
            f"--listen-client-urls={self._scheme}://0.0.0.0:{CLIENTS}",
            f"--advertise-client-urls={self._scheme}://{self.name}:{CLIENTS}",
            f"--listen-peer-urls={self._scheme}://0.0.0.0:{PEERS}",
            f"--initial-advertise-peer-urls={self._scheme}://{self.name}:{PEERS}",
            f"--initial-cluster={cluster}",
            # Health and figures without a client's certificate.
            f"--listen-metrics-urls=http://0.0.0.0:{HEALTH}",
            "--log-level=warn",
        ]

    def _tls_flags(self) -> list[str]:
        if self.authority is None:
            return []
        server = self.authority.issue(self.name, self.name, "localhost", "127.0.0.1")
        root = self.authority.issue(ROOT)
        for content, name in (
            (server.ca, "ca.pem"),
            (server.cert, "server.pem"),
            (server.key, "server.key"),
            (root.cert, "root.pem"),
            (root.key, "root.key"),
        ):
            self.with_copy_into_container(content, f"{_TLS}/{name}")
        return [
            flag
            for kind in ("", "peer-")
            for flag in (
                f"--{kind}cert-file={_TLS}/server.pem",
                f"--{kind}key-file={_TLS}/server.key",
                f"--{kind}trusted-ca-file={_TLS}/ca.pem",
                f"--{kind}client-cert-auth",
            )
        ]


class EtcdCluster:
    """A cluster of `size` members on `network`, for the length of a `with` block.

    `authority` turns TLS with client certificates on. `auth` turns etcd's access rules on, too:
    the user `mesh`, whom its certificate's common name proves, may read and write below
    `mesh/` and nothing else. Members are `name` (one) or `name1`, `name2`, ...
    """

    def __init__(
        self,
        network: Network,
        size: int = 1,
        *,
        name: str = "etcd",
        authority: ServerAuthority | None = None,
        auth: bool = False,
    ) -> None:
        if auth and authority is None:
            raise ValueError("auth is by certificate: give an authority")
        names = (name,) if size == 1 else tuple(f"{name}{n}" for n in range(1, size + 1))
        self.members = tuple(
            EtcdContainer(network, name=one, members=names, authority=authority, is_awaited=False)
            for one in names
        )
        self._authority = authority
        self._auth = auth
        self._running = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for member in self.members:
                # Nobody is healthy before a majority runs: start all, then wait.
                stack.enter_context(member)
            for member in self.members:
                member.ready.wait_until_ready(member)
            if self._auth:
                self._turn_on_auth()
            self._running = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._running.close()

    def leader(self) -> EtcdContainer:
        """The member that leads.

        Raises:
            Unavailable: none does, or a member does not answer.
        """
        for member in self.members:
            if member.is_leader():
                return member
        raise Unavailable("the etcd cluster has no leader")

    def store(self, folder: Path) -> str:
        """MESH_STORE for programs of this machine; what TLS needs is written below `folder`."""
        return self._url([member.outside() for member in self.members], self._files(folder))

    def inner_store(self, folder: str = "/etc/mesh-store") -> str:
        """MESH_STORE for containers of the network, where `files` are in `folder`."""
        files = (f"{folder}/ca.pem", f"{folder}/mesh.pem", f"{folder}/mesh.key")
        return self._url([member.inside() for member in self.members], files)

    def files(self) -> dict[str, bytes]:
        """What a client of the user `mesh` needs, by file name: nothing without TLS."""
        if self._authority is None:
            return {}
        client = self._authority.issue(USER)
        return {"ca.pem": client.ca, "mesh.pem": client.cert, "mesh.key": client.key}

    def _files(self, folder: Path) -> tuple[str, ...]:
        if self._authority is None:
            return ()
        return tuple(map(str, self._authority.issue(USER).write(folder, USER)))

    def _url(self, endpoints: list[str], files: tuple[str, ...]) -> str:
        url = f"etcd://{','.join(endpoints)}/{PREFIX}"
        if self._authority is None:
            return url
        pairs = zip(("cacert", "cert", "key"), files, strict=True)
        return f"{url}?{'&'.join(f'{key}={value}' for key, value in pairs)}"

    def _turn_on_auth(self) -> None:
        first = self.members[0]
        for words in (
            ("user", "add", ROOT, "--no-password"),
            ("user", "grant-role", ROOT, ROOT),
            ("role", "add", USER),
            ("role", "grant-permission", USER, "--prefix=true", "readwrite", f"{PREFIX}/"),
            ("user", "add", USER, "--no-password"),
            ("user", "grant-role", USER, USER),
            ("auth", "enable"),
        ):
            first.etcdctl(*words)
