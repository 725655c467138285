"""Real etcd and Consul for tests: on free loopback ports, with data in a temporary folder.

    with etcd(tmp_path) as server: ... server.endpoint
    with etcd_cluster(tmp_path) as members: members[0].kill()

Each is ready when the block is entered and gone, by process id, when it is left.
"""

import os
import signal
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.leftovers import mark
from tests.support.tls import TLSFiles
from tools.servers import Failure, locate

READY_SECONDS = 30.0
STOP_SECONDS = 10.0
POLL_SECONDS = 0.02


def require(name: str) -> Path:
    """The program, or a visible skip; where CI=true it must be there."""
    try:
        program = locate(name)
    except Failure as failure:
        pytest.fail(str(failure))
    if program is not None:
        return program
    if os.environ.get("CI") == "true":
        pytest.fail(f"{name} is not installed; run: make servers")
    pytest.skip(f"{name} is not installed; run: make servers")


def free_ports(count: int) -> list[int]:
    """Different loopback ports that nobody listens on."""
    with ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]


@dataclass
class Server:
    """A running server. `endpoint` is its `host:port`."""

    command: Sequence[str | Path]
    endpoint: str
    log: Path
    probe: Callable[[], None]
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, again after an end; does not wait."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self.environment
            )

    def wait_ready(self) -> None:
        """Return once `probe` raises no OSError any more."""
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                self.probe()
            except OSError as error:
                # Not itself: with its own traceback it would keep an answer of 503 open.
                last = str(error)
            else:
                return
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.command[0]} is not ready: {last}\n{self.tail()}")
            with suppress(subprocess.TimeoutExpired):
                assert self.process is not None
                self.process.wait(POLL_SECONDS)
                raise AssertionError(f"{self.command[0]} ended:\n{self.tail()}")

    def tail(self) -> str:
        """The last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def signal(self, number: int) -> None:
        """Send a signal: SIGSTOP and SIGCONT freeze and thaw it. Returns once it is frozen."""
        assert self.process is not None
        self.process.send_signal(number)
        if number == signal.SIGSTOP:  # its threads stop one after another
            os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)

    def kill(self) -> None:
        """End it as a power cut would, and wait for that."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(STOP_SECONDS)

    def stop(self) -> None:
        """End it in order, else by force; fine if it is over already."""
        if self.process is None:
            return
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()


@contextmanager
def _running(servers: list[Server]) -> Iterator[None]:
    try:
        for server in servers:
            server.start()
        for server in servers:
            server.wait_ready()
        yield
    finally:
        for server in servers:
            server.stop()


def _etcd_command(
    folder: Path, port: int, name: str, peers: dict[str, int], tls: TLSFiles | None
) -> list[str | Path]:
    scheme = "https" if tls else "http"
    cluster = ",".join(f"{peer}=http://127.0.0.1:{at}" for peer, at in peers.items())
    command: list[str | Path] = [
        require("etcd"),
        f"--name={name}",
        f"--data-dir={folder / name}",
        f"--listen-client-urls={scheme}://127.0.0.1:{port}",
        f"--advertise-client-urls={scheme}://127.0.0.1:{port}",
        f"--listen-peer-urls=http://127.0.0.1:{peers[name]}",
        f"--initial-advertise-peer-urls=http://127.0.0.1:{peers[name]}",
        f"--initial-cluster={cluster}",
        "--log-level=warn",
        "--unsafe-no-fsync",
        # Quick elections: the tests wait for them.
        "--heartbeat-interval=50",
        "--election-timeout=500",
    ]
    if tls:
        command += [f"--cert-file={tls.cert}", f"--key-file={tls.key}"]
    return command


def _etcd_probe(port: int, tls: TLSFiles | None) -> Callable[[], None]:
    context: ssl.SSLContext | None = None
    if tls:
        context = ssl.create_default_context(cafile=tls.ca)
        context.load_cert_chain(tls.cert, tls.key)

    def probe() -> None:
        url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/health"
        with urllib.request.urlopen(url, timeout=2, context=context) as answer:
            answer.read()

    return probe


def _consul_probe(port: int) -> Callable[[], None]:
    def probe() -> None:
        url = f"http://127.0.0.1:{port}/v1/status/leader"
        with urllib.request.urlopen(url, timeout=2) as answer:
            if answer.read().strip() in (b"", b'""'):
                raise OSError("no leader yet")

    return probe


@contextmanager
def etcd_cluster(
    folder: Path,
    size: int = 3,
    *,
    tls: TLSFiles | None = None,
    client_auth: bool = False,
    extra: Sequence[str] = (),
) -> Iterator[list[Server]]:
    """The members of one etcd cluster. `tls` makes clients speak TLS, `client_auth` with a
    certificate of its CA.
    """
    if tls and client_auth:
        extra = ["--client-cert-auth", f"--trusted-ca-file={tls.ca}", *extra]
    ports = free_ports(2 * size)
    peers = {f"m{n}": ports[size + n] for n in range(size)}
    servers = [
        Server(
            [*_etcd_command(folder, port, name, peers, tls), *extra],
            f"127.0.0.1:{port}",
            folder / f"{name}.log",
            _etcd_probe(port, tls),
            # etcd takes flags from ETCD_* too: none of the caller's.
            {"PATH": os.environ.get("PATH", ""), **mark()},
        )
        for name, port in zip(peers, ports, strict=False)
    ]
    with _running(servers):
        yield servers


@contextmanager
def etcd(
    folder: Path,
    *,
    tls: TLSFiles | None = None,
    client_auth: bool = False,
    extra: Sequence[str] = (),
) -> Iterator[Server]:
    """One etcd."""
    with etcd_cluster(folder, 1, tls=tls, client_auth=client_auth, extra=extra) as (server,):
        yield server


@contextmanager
def consul(folder: Path, *, extra: Sequence[str] = ()) -> Iterator[Server]:
    """One Consul server in development mode: its state is in memory, its HTTP port `endpoint`.

    Ready once it has elected itself.
    """
    http, dns, lan, wan, rpc, grpc = free_ports(6)
    server = Server(
        [
            require("consul"),
            "agent",
            "-dev",
            "-bind=127.0.0.1",
            "-client=127.0.0.1",
            "-log-level=warn",
            "-disable-host-node-id",
            f"-node=test-{http}",
            f"-http-port={http}",
            f"-dns-port={dns}",
            f"-serf-lan-port={lan}",
            f"-serf-wan-port={wan}",
            f"-server-port={rpc}",
            f"-grpc-port={grpc}",
            *extra,
        ],
        f"127.0.0.1:{http}",
        folder / "consul.log",
        _consul_probe(http),
        {"PATH": os.environ.get("PATH", ""), "HOME": os.fspath(folder), **mark()},
    )
    with _running([server]):
        yield server
