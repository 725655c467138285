"""Who presents what to a real inbound listener: every wrong certificate, every other protocol."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from mesh.adapters.clock import SystemClock
from mesh.model.policy import Default, Protocol
from tests.support import certificates, compiled, echo, envoy, http2, sidecars
from tests.support.policies import mesh, policies, service

AUTHORITY = sidecars.Authority(certificates.Peers.made(now=SystemClock().now()))


@contextmanager
def open_to_members(protocol: Protocol) -> Iterator[envoy.RunningEnvoy]:
    """The sidecar of a service that anybody of the mesh may call."""
    items = policies(mesh(Default.ALLOW), service("api", protocol))
    with echo.running(["api"]) as ports:
        view = sidecars.view(items, sidecars.placement("api", app=ports["api"]), AUTHORITY)
        with envoy.running(compiled.static(view)) as callee:
            yield callee


@pytest.fixture(scope="module")
def callee() -> Iterator[envoy.RunningEnvoy]:
    with open_to_members(Protocol.HTTP) as found:
        yield found


@pytest.fixture(scope="module")
def port(callee: envoy.RunningEnvoy) -> int:
    return callee.ports["inbound"]


@pytest.fixture(scope="module")
def bytes_port() -> Iterator[int]:
    """The inbound port of the same application, as a TCP service."""
    with open_to_members(Protocol.TCP) as found:
        yield found.ports["inbound"]


def test_a_member_of_the_mesh_is_answered(port: int, tmp_path: Path) -> None:
    good = certificates.good_leaf(AUTHORITY.peers)
    assert http2.is_answered(port, http2.context(good, tmp_path))


# A peer of ours, whatever its path: what it may do is for access rules, by its exact name.
OTHER_MEMBERS = {"other-service", "other-namespace"}


@pytest.mark.parametrize("kind", sorted(certificates.BAD_LEAVES.keys() - OTHER_MEMBERS))
def test_no_wrong_certificate_is_answered(kind: str, port: int, tmp_path: Path) -> None:
    leaf = certificates.BAD_LEAVES[kind](AUTHORITY.peers)
    assert not http2.is_answered(port, http2.context(leaf, tmp_path))


@pytest.mark.parametrize("kind", ["good", *sorted(certificates.BAD_LEAVES.keys() - OTHER_MEMBERS)])
def test_nor_do_its_bytes_reach_a_tcp_service(kind: str, bytes_port: int, tmp_path: Path) -> None:
    make = certificates.BAD_LEAVES.get(kind, certificates.good_leaf)
    answer = first_line(bytes_port, http2.context(make(AUTHORITY.peers), tmp_path))
    assert answer == (b"HTTP/1.1 200 OK" if kind == "good" else b"")


def test_two_identities_are_refused_by_name(callee: envoy.RunningEnvoy, tmp_path: Path) -> None:
    before = callee.stats("tcp.not-a-member.rbac.").get("denied", 0)
    leaf = certificates.BAD_LEAVES["two-own-ids"](AUTHORITY.peers)
    assert not http2.is_answered(callee.ports["inbound"], http2.context(leaf, tmp_path))
    assert callee.stats("tcp.not-a-member.rbac.")["denied"] == before + 1


def test_there_are_more_kinds_of_bad_peers_than_the_standards_name() -> None:
    assert len(certificates.BAD_LEAVES.keys() - OTHER_MEMBERS) >= 35


def test_a_chain_that_does_not_reach_a_root_is_refused(port: int, tmp_path: Path) -> None:
    good = certificates.good_leaf(AUTHORITY.peers)
    alone = certificates.Presented(good.certificate, good.key, (good.certificate,))
    assert not http2.is_answered(port, http2.context(alone, tmp_path))


def test_a_root_of_the_callers_own_in_the_chain_convinces_nobody(port: int, tmp_path: Path) -> None:
    strange = certificates.BAD_LEAVES["by-a-stranger"](AUTHORITY.peers)
    root = AUTHORITY.peers.stranger.root.certificate
    sent = certificates.Presented(strange.certificate, strange.key, (*strange.chain, root))
    assert not http2.is_answered(port, http2.context(sent, tmp_path))


@pytest.mark.parametrize(
    "hello",
    [
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
        b"\x15\x03\x03\x00\x02\x01\x00",
        b"\x17\x03\x03\x00\x04PRI ",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
        b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n",
        bytes(64),
    ],
)
def test_what_is_no_handshake_is_hung_up_on(hello: bytes, port: int) -> None:
    with socket.create_connection((sidecars.HOST, port), timeout=15) as wire:
        wire.sendall(hello)
        with suppress(OSError):  # hung up on already
            wire.shutdown(socket.SHUT_WR)
        try:
            answer = wire.recv(1024)
        except ConnectionError:
            answer = b""
    assert answer[:1] in (b"", b"\x15")  # nothing, or a TLS alert


def test_without_a_certificate_nobody_is_answered(port: int, tmp_path: Path) -> None:
    assert not http2.is_answered(port, http2.context(None, tmp_path))


def first_line(port: int, context: ssl.SSLContext) -> bytes:
    """Of the answer to a plain request over TLS; empty where there is none."""
    try:
        with (
            socket.create_connection((sidecars.HOST, port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="api") as secure,
        ):
            secure.sendall(b"GET / HTTP/1.1\r\nHost: api\r\n\r\n")
            return secure.recv(1024).partition(b"\r\n")[0]
    except (ssl.SSLError, ConnectionError):
        return b""


def test_tls_1_2_is_refused(port: int, tmp_path: Path) -> None:
    context = http2.context(certificates.good_leaf(AUTHORITY.peers), tmp_path)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert not http2.is_answered(port, context)


@pytest.mark.parametrize("protocols", [["http/1.1"], []])
def test_http_1_is_not_spoken_between_sidecars(
    protocols: list[str], port: int, tmp_path: Path
) -> None:
    context = http2.context(certificates.good_leaf(AUTHORITY.peers), tmp_path)
    if protocols:
        context.set_alpn_protocols(protocols)
    assert not first_line(port, context).startswith(b"HTTP/1.1")


def test_a_plain_request_is_not_answered(port: int) -> None:
    assert sidecars.exchange(port, b"GET / HTTP/1.1\r\nHost: api\r\n\r\n", 1024) == b""
