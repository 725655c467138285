"""What passes through two sidecars unchanged, what does not, and what they say of themselves."""

import json
import socket
from collections.abc import Iterator, Mapping

import aiohttp
import pytest

from mesh.model.policy import (
    HTTPMatch,
    HTTPRule,
    PathMatch,
    PathMatchType,
    Retry,
    RetryOn,
    Timeouts,
)
from mesh.model.revision import Policies
from tests.support import echo, sidecars
from tests.support.envoy import RunningEnvoy
from tests.support.policies import (
    allow,
    backend,
    milliseconds,
    policies,
    route,
    service,
    traffic,
)

Mesh = Mapping[str, RunningEnvoy]


def on(path: str, *backends: object, **fields: object) -> HTTPRule:
    match = HTTPMatch(path=PathMatch(PathMatchType.PREFIX, path))
    return HTTPRule(matches=(match,), backends=tuple(backends), **fields)


POLICIES: Policies = policies(
    service("api"),
    service("empty"),
    service("dead"),
    allow("api", "web"),
    allow("empty", "web"),
    allow("dead", "web"),
    traffic("api", "api", timeouts=Timeouts(request=milliseconds(5000))),
    route(
        "api",
        "api",
        on("/gone", backend("vanished")),
        on("/half-gone", backend("vanished", 1000), backend("api", 1)),
        on("/slow", backend("api"), timeout=milliseconds(100)),
        on("/items", backend("api")),
    ),
    traffic("dead", "dead", retry=Retry(attempts=1, on=frozenset({RetryOn.CONNECT_FAILURE}))),
)


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with socket.socket() as closed, echo.running(["api"]) as ports:
        closed.bind((sidecars.HOST, 0))  # bound, never listening: connections are refused
        apps = {"api": ports["api"], "dead": closed.getsockname()[1]}
        with sidecars.running(POLICIES, apps=apps, callers=("web",)) as found:
            yield found


def ask(mesh: Mesh, path: str = "/items", **fields: object) -> sidecars.Answer:
    return sidecars.request(mesh["web"].ports["outbound"], path, **fields)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /items HTTP/1.0\r\nhost: api\r\n", b"200"),  # a reverse proxy's
        (b"GET /items HTTP/1.0\r\n", b"400"),
        (b"GET /items HTTP/1.1\r\nconnection: close\r\nhost: api.default.mesh.\r\n", b"200"),
        (b"GET /items HTTP/1.1\r\nconnection: close\r\nhost: api.default.mesh.:80\r\n", b"200"),
    ],
)
def test_a_host_by_an_old_protocol_or_with_a_dot_at_its_end(
    mesh: Mesh, head: bytes, status: bytes
) -> None:
    address = (sidecars.HOST, mesh["web"].ports["outbound"])
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(head + b"\r\n")
        answer = b""
        while part := connection.recv(4096):
            answer += part
    assert answer.split(b" ", 2)[1] == status, answer


def test_the_application_sees_the_request_and_who_asks(mesh: Mesh) -> None:
    sent = {
        "x-forwarded-for": "192.0.2.1",
        "x-forwarded-proto": "https",
        "x-request-id": "mine",
        "x-envoy-retry-on": "5xx",
        "x-envoy-upstream-rq-timeout-ms": "1",
        "X-Envoy-Anything": "1",
        "x-forwarded-client-cert": "URI=spiffe://mesh.local/ns/default/svc/admin",
    }
    said = json.loads(ask(mesh, headers=sent).body)
    found = dict(said["headers"])
    assert found["x-forwarded-for"] == "192.0.2.1"
    assert found["x-forwarded-proto"] == "https"
    assert found["x-request-id"] == "mine"
    assert not [each for each in found if each.startswith("x-envoy")]
    assert found["x-forwarded-client-cert"].endswith("URI=spiffe://mesh.local/ns/default/svc/web")
    assert "admin" not in found["x-forwarded-client-cert"]


def test_the_answer_carries_nothing_of_the_sidecars(mesh: Mesh) -> None:
    answer = ask(mesh, headers={"x-echo-answer": "x-mesh-reason=mine"})
    assert answer.status == 200
    assert answer.headers["server"].startswith("Python")
    assert not [each for each in answer.headers if each.startswith(("x-mesh", "x-envoy"))]


@pytest.mark.parametrize(
    ("path", "host", "expected"),
    [
        ("/items", "nobody", (404, "unknown-host")),
        ("/items", "api:81", (404, "unknown-host")),
        ("/else", "api", (404, "no-route")),
        ("/gone", "api", (500, "no-backend")),
        ("/half-gone", "api", (500, "no-backend")),
        ("/", "empty", (503, "no-healthy-endpoint")),
        ("/", "dead", (503, "connect-failure")),
        ("/items%2f", "api", (400, "bad-request")),
    ],
)
def test_what_a_sidecar_answers_itself_says_why(
    mesh: Mesh, path: str, host: str, expected: tuple[int, str]
) -> None:
    answer = ask(mesh, path, host=host)
    assert (answer.status, answer.reason) == expected


def test_a_time_out_says_so(mesh: Mesh) -> None:
    answer = ask(mesh, "/slow", headers={"x-echo-fail": "9 hang", "x-echo-key": "slow"})
    assert (answer.status, answer.reason) == (504, "timeout")


def test_a_reset_says_so(mesh: Mesh) -> None:
    answer = ask(mesh, headers={"x-echo-fail": "9 reset", "x-echo-key": "reset"})
    assert (answer.status, answer.reason) == (503, "reset")


def test_headers_that_could_be_taken_for_others_are_refused(mesh: Mesh) -> None:
    assert ask(mesh, headers={"x_forwarded_client_cert": "a"}).status == 400
    assert ask(mesh, headers={"x-large": "a" * 70_000}).status == 431


def test_absolute_form_is_understood(mesh: Mesh) -> None:
    answer = ask(mesh, "http://api.default/items?q=1", host="ignored")
    assert answer.status == 200
    assert json.loads(answer.body)["path"] == "/items?q=1"


async def test_a_web_socket_passes(mesh: Mesh) -> None:
    url = f"ws://{sidecars.HOST}:{mesh['web'].ports['outbound']}/items"
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, headers={"Host": "api"}) as connection,
    ):
        await connection.send_str("hello")
        assert await connection.receive_str(timeout=10) == "api: hello"


def test_an_expectation_is_the_applications_to_answer(mesh: Mesh) -> None:
    head = b"POST /items HTTP/1.1\r\nHost: api\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    port = mesh["web"].ports["outbound"]
    with socket.create_connection((sidecars.HOST, port), timeout=10) as connection:
        connection.sendall(head)
        assert connection.recv(1024).startswith(b"HTTP/1.1 100 Continue\r\n")
        connection.sendall(b"ok")
        assert b"200 OK" in connection.recv(4096)
