"""What services speak, through two sidecars with HTTP/2 and mutual TLS between them."""

import socket
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import grpc
import pytest

from mesh.model.policy import Protocol
from tests.support import sidecars
from tests.support.envoy import RunningEnvoy
from tests.support.policies import allow, policies, service

Mesh = Mapping[str, RunningEnvoy]
TRAILER = b"x-sum: 42"

POLICIES = policies(
    service("calc", Protocol.GRPC),
    service("plain"),
    allow("calc", "web"),
    allow("plain", "web"),
)


class Calculator(grpc.GenericRpcHandler):
    """Methods on bytes, without generated code."""

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        match call.method:
            case "/Calculator/Double":
                return grpc.unary_unary_rpc_method_handler(lambda asked, _: asked * 2)
            case "/Calculator/Fail":
                return grpc.unary_unary_rpc_method_handler(self._fail)
            case "/Calculator/Talk":
                return grpc.stream_stream_rpc_method_handler(
                    lambda asked, _: (each.upper() for each in asked)
                )
        return None

    @staticmethod
    def _fail(_: bytes, context: grpc.ServicerContext) -> bytes:
        context.set_trailing_metadata((("reason", "odd"),))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not even: 3")


@contextmanager
def _calculator() -> Iterator[int]:
    server = grpc.server(ThreadPoolExecutor(2), handlers=[Calculator()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


@contextmanager
def _with_trailers() -> Iterator[tuple[int, list[bytes]]]:
    """An HTTP/1.1 application that keeps what it was sent and answers with a trailer."""
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(20)

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.settimeout(10)
                received.append(_until(connection, b"\r\n\r\n", after=b"\r\n0\r\n"))
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n"
                    b"2\r\nhi\r\n0\r\n" + TRAILER + b"\r\n\r\n"
                )
                connection.recv(1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1], received
    thread.join(10)


def _until(connection: socket.socket, end: bytes, after: bytes) -> bytes:
    """Read until `end` comes behind `after`."""
    data = b""
    while end not in data.partition(after)[2]:
        part = connection.recv(4096)
        assert part, data
        data += part
    return data


@pytest.fixture(scope="module")
def applications() -> Iterator[tuple[dict[str, int], list[bytes]]]:
    with ExitStack() as stack:
        calculator = stack.enter_context(_calculator())
        plain, received = stack.enter_context(_with_trailers())
        yield {"calc": calculator, "plain": plain}, received


@pytest.fixture(scope="module")
def mesh(applications: tuple[dict[str, int], list[bytes]]) -> Iterator[Mesh]:
    with sidecars.running(POLICIES, apps=applications[0], callers=("web",)) as running:
        yield running


@pytest.fixture
def channel(mesh: Mesh) -> Iterator[grpc.Channel]:
    options = [("grpc.default_authority", "calc"), ("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(f"127.0.0.1:{mesh['web'].ports['outbound']}", options) as channel:
        yield channel


def test_a_grpc_call_is_answered(channel: grpc.Channel) -> None:
    assert channel.unary_unary("/Calculator/Double")(b"21", timeout=10) == b"2121"


def test_a_grpc_error_keeps_its_message_and_metadata(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/Calculator/Fail")(b"3", timeout=10)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert caught.value.details() == "not even: 3"
    assert ("reason", "odd") in [
        (each.key, each.value) for each in caught.value.trailing_metadata()
    ]


def test_a_grpc_stream_goes_both_ways_at_once(channel: grpc.Channel) -> None:
    talk = channel.stream_stream("/Calculator/Talk")
    assert list(talk(iter([b"a", b"b", b"c"]), timeout=10)) == [b"A", b"B", b"C"]


def test_an_unknown_host_is_unimplemented_to_grpc(mesh: Mesh) -> None:
    options = [("grpc.default_authority", "nowhere"), ("grpc.enable_http_proxy", 0)]
    target = f"127.0.0.1:{mesh['web'].ports['outbound']}"
    with (
        grpc.insecure_channel(target, options) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        channel.unary_unary("/Calculator/Double")(b"1", timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "mesh describe" in caught.value.details()


def test_http1_trailers_are_kept_in_both_directions(
    mesh: Mesh, applications: tuple[dict[str, int], list[bytes]]
) -> None:
    address = ("127.0.0.1", mesh["web"].ports["outbound"])
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(
            b"POST / HTTP/1.1\r\nhost: plain\r\ntransfer-encoding: chunked\r\nte: trailers\r\n"
            b"trailer: x-sum\r\n\r\n3\r\nabc\r\n0\r\n" + TRAILER + b"\r\n\r\n"
        )
        answer = _until(connection, b"\r\n\r\n", after=b"\r\n0\r\n")
    assert TRAILER in answer.partition(b"\r\n0\r\n")[2]
    assert TRAILER in applications[1][0].partition(b"\r\n0\r\n")[2]
