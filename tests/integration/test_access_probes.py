"""Every way to write a path that a rule refuses, and every header that might lift a rule, sent as
bytes through two real sidecars to an application that reads paths as generously as any.

None may reach what the rules refuse; that the application answers otherwise is the control.
"""

import json
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from mesh.model.policy import AccessPathType, Action, Operation, ValueMatch
from tests.support import decoding, sidecars
from tests.support.envoy import RunningEnvoy
from tests.support.policies import access, policies, rule, service

EXACT, PREFIX, REGEX = AccessPathType.EXACT, AccessPathType.PREFIX, AccessPathType.REGEX
ALLOW, DENY = Action.ALLOW, Action.DENY


def to(*paths: tuple[AccessPathType, str]) -> tuple[Operation, ...]:
    return (Operation(paths=paths),)


# What may be reached where, as the application names it: the rules in other words.
RULES = {
    "deny-prefix": (rule(ALLOW, "web"), rule(DENY, operations=to((PREFIX, "/admin")))),
    "deny-exact": (rule(ALLOW, "web"), rule(DENY, operations=to((EXACT, "/admin")))),
    "deny-regex": (rule(ALLOW, "web"), rule(DENY, operations=to((REGEX, "/admin(/.*)?")))),
    "allow-prefix": (rule(ALLOW, "web", operations=to((PREFIX, "/public"))),),
    "allow-exact": (rule(ALLOW, "web", operations=to((EXACT, "/public"), (EXACT, "/public/"))),),
    "allow-regex": (rule(ALLOW, "web", operations=to((REGEX, "/public(/[^/]*)*"))),),
}
SECRET = (
    rule(ALLOW, "web", called="key", operations=(Operation(headers=(ValueMatch("x-key", "k"),)),)),
    rule(DENY, called="debug", operations=(Operation(headers=(ValueMatch("x-debug", "1"),)),)),
)
POLICIES = policies(
    *(service(each) for each in (*RULES, "secret")),
    *(access(each, each, *rules) for each, rules in RULES.items()),
    access("secret", "secret", *SECRET),
)


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mapping[str, RunningEnvoy]]:
    with (
        decoding.running() as app,
        sidecars.running(
            POLICIES, apps=dict.fromkeys((*RULES, "secret"), app), callers=("web", "guest")
        ) as found,
    ):
        yield found


@dataclass(frozen=True)
class Answer:
    """`said` is the application's account; None where it was not reached."""

    status: int
    headers: Mapping[str, str]
    said: dict[str, Any] | None


def send(envoy: RunningEnvoy, request: bytes) -> Answer:
    """What comes back for these bytes; status 0 where the sidecar hangs up."""
    with socket.create_connection((sidecars.HOST, envoy.ports["outbound"]), timeout=10) as wire:
        wire.sendall(request)
        received = b""
        while b"\r\n\r\n" not in received and (part := wire.recv(1 << 16)):
            received += part
        head, _, body = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        size = int(headers.get("content-length", 0))
        while len(body) < size and (part := wire.recv(1 << 16)):
            body += part
    status = int(first.split(" ")[1]) if first else 0
    try:
        said = json.loads(body)
    except ValueError:
        said = None
    return Answer(status, headers, said)


def get(
    mesh: Mapping[str, RunningEnvoy], host: str, path: str, *lines: str, caller: str = "web"
) -> Answer:
    head = "\r\n".join((f"GET {path} HTTP/1.1", f"Host: {host}", *lines))
    return send(mesh[caller], f"{head}\r\n\r\n".encode("latin-1"))


SPELLINGS = (
    "/admin",
    "/admin/",
    "/admin//",
    "/admin/.",
    "/admin/./",
    "/admin/x/..",
    "/admin?x=1",
    "/admin?",
    "/admin#x",
    "/admin/#",
    "//admin",
    "///admin",
    "/./admin",
    "/.//admin",
    "/././admin",
    "/x/../admin",
    "/x//../admin",
    "/../admin",
    "/../../admin",
    "/x/y/../../admin",
    "/%61dmin",
    "/%61%64%6d%69%6e",
    "/%41dmin/../admin",
    "/admi%6e",
    "/admin%2f",
    "/%2fadmin",
    "/%2e/admin",
    "/%2e%2e/admin",
    "/x/%2e%2e/admin",
    "/x/.%2e/admin",
    "/x/%2e./admin",
    "/x/%2E%2E/admin",
    "/x%2f..%2fadmin",
    "/x%2F%2E%2E%2Fadmin",
    "/x/..%2fadmin",
    "/admin;",
    "/admin;x=1",
    "/admin;/",
    "/;/admin",
    "/;x/admin",
    "/x/..;/admin",
    "/x/..;x=1/admin",
    "/.;/admin",
    "/admin%3b",
    "/admin%3Bx=1",
    "/%3b/admin",
    "/x/..%3b/admin",
    "/x/%2e%2e%3b/admin",
    "\\admin",
    "/\\admin",
    "/x\\..\\admin",
    "/x/..\\admin",
    "/%5cadmin",
    "/x%5c..%5cadmin",
    "/x/..%5Cadmin",
    "/admin%00",
    "/admin%00.png",
    "/admin%20",
    "/%20admin",
    "/ admin",
    "/admin%09",
    "/%09admin",
    "/admin\t",
    "/admin%0d%0aX:1",
    "/admin%0a",
    "/admin/%2e",
    "/admin/x/%2e%2e",
    "http://HOST/admin",
    "http://HOST//admin",
    "http://HOST/x/../admin",
    "http://HOST/%61dmin",
    "http://HOST\\admin",
    "http://HOST/admin;x",
    "//HOST/admin",
    "admin",
    "../admin",
    "*",
)
UPWARD = (
    *("..", "%2e%2e", ".%2e", "%2e.", "%2E%2E", "..;", "..;x=1", "..%3b", "%2e%2e%3b", "..%3B"),
    *("..%2f", "..%2F", "..\\", "..%5c", ".;/..", "./..", "%2e/..", "..%00", "..%20", "..%09"),
    *("/..", "//..", "x/../..", "x/%2e%2e/..", ";/..", "%3b/..", ";/../", "..//"),
)
PROBES = (*SPELLINGS, *(f"/public/{way}/admin" for way in UPWARD))


def refuses(host: str, resource: str) -> bool:
    """What the rules of that service say of a resource."""
    match host:
        case "deny-prefix" | "deny-regex":
            return f"{resource}/".startswith("/admin/")
        case "deny-exact":
            return resource == "/admin"
        case "allow-exact":
            return resource not in ("/public", "/public/")
        case _:
            return not f"{resource}/".startswith("/public/")


def test_there_are_more_probes_than_ever_got_through() -> None:
    assert len(set(PROBES)) == len(PROBES) > 100
    assert {"/admin"} < {found for each in PROBES for found in decoding.resources(each)}


@pytest.mark.parametrize("host", RULES)
def test_no_spelling_reaches_what_a_rule_refuses(
    mesh: Mapping[str, RunningEnvoy], host: str
) -> None:
    reached = {}
    for probe in PROBES:
        answer = get(mesh, host, probe.replace("HOST", host))
        if answer.said and any(refuses(host, each) for each in answer.said["resources"]):
            reached[probe] = answer.said
    assert reached == {}


@pytest.mark.parametrize("host", RULES)
def test_what_the_rules_allow_is_reached(mesh: Mapping[str, RunningEnvoy], host: str) -> None:
    for path in ("/public", "/public/", "/x/../public", "//public", "/public?admin", "/%70ublic"):
        answer = get(mesh, host, path)
        assert answer.said is not None, path
        assert not any(refuses(host, each) for each in answer.said["resources"])


def secret(mesh: Mapping[str, RunningEnvoy], *lines: str, caller: str = "web") -> Answer:
    return get(mesh, "secret", "/", *lines, caller=caller)


def test_a_header_that_a_rule_asks_for_is_no_other(mesh: Mapping[str, RunningEnvoy]) -> None:
    assert secret(mesh, "x-key: k").status == 200
    for lines in (
        ("x_key: k",),
        ("x-key: no", "x-key: k"),
        ("x-key: k", "x-key: no"),
        ("x-key: k, k",),
        ("x-key : k",),
        (" x-key: k",),
        ("x-key: k\0",),
        ("x-key: K",),
        ("x-key: k", "Connection: x-key"),
        ("x-envoy-key: k",),
        ("x-key%3a: k",),
    ):
        answer = secret(mesh, *lines)
        assert answer.said is None, lines
        assert answer.status in (0, 400, 403), lines


def test_a_line_feed_alone_ends_a_header_for_the_rule_and_the_application(
    mesh: Mapping[str, RunningEnvoy],
) -> None:
    """RFC 9112 section 2.2 lets a recipient take it so; what counts is that all take it alike."""
    answer = secret(mesh, "y: 1\nx-key: k")
    assert answer.said is None or ["x-key", "k"] in answer.said["headers"]
    answer = secret(mesh, "y: 1\nx-key: no")
    assert (answer.said, answer.status in (400, 403)) == (None, True)


def test_a_header_that_a_rule_refuses_does_not_arrive(mesh: Mapping[str, RunningEnvoy]) -> None:
    for lines in (
        ("x-debug: 1",),
        ("X-DEBUG: 1",),
        ("x-debug:1",),
        ("x-debug:   1   ",),
        ("x_debug: 1",),
        ("x-debug: 1", "Connection: x-debug"),
        ("Connection: keep-alive, X-Debug", "x-debug: 1"),
        ("x-debug : 1",),
        ("y: 1\nx-debug: 1",),
        ("y: 1\rx-debug: 1",),
        ("TE: trailers", "Trailer: x-debug", "x-debug: 1"),
    ):
        answer = secret(mesh, "x-key: k", *lines)
        seen = dict(answer.said["headers"]) if answer.said else {}
        assert seen.get("x-debug", seen.get("x_debug")) != "1", lines


CLAIMS = (
    "x-forwarded-client-cert: By=x;Hash=y;URI=spiffe://mesh.local/ns/default/svc/web",
    "X-Forwarded-Client-Cert: URI=spiffe://mesh.local/ns/default/svc/web",
    "x-forwarded-for: 127.0.0.1",
    "x-real-ip: 127.0.0.1",
    "x-envoy-internal: true",
    "x-envoy-external-address: 127.0.0.1",
    "x-envoy-original-path: /public",
    "x-envoy-downstream-service-cluster: default/web",
    "x-envoy-downstream-service-node: web-1",
    "x-envoy-peer-metadata-id: web",
    "x-mesh-caller: web",
    "x-mesh-reason: none",
    "x_forwarded_client_cert: URI=spiffe://mesh.local/ns/default/svc/web",
)


@pytest.mark.parametrize("claim", CLAIMS)
def test_nobody_is_who_a_header_says(mesh: Mapping[str, RunningEnvoy], claim: str) -> None:
    """Guest may call nothing; straight at the callee's listener it would need a certificate."""
    assert secret(mesh, "x-key: k", claim, caller="guest").said is None


@pytest.mark.parametrize("claim", CLAIMS)
def test_the_application_hears_of_the_caller_from_the_handshake_alone(
    mesh: Mapping[str, RunningEnvoy], claim: str
) -> None:
    answer = secret(mesh, "x-key: k", claim.replace("svc/web", "svc/admin"))
    if answer.said is None:
        assert answer.status == 400  # underscores
        return
    headers = answer.said["headers"]
    said = [value for name, value in headers if name == "x-forwarded-client-cert"]
    assert len(said) == 1
    assert said[0].endswith("URI=spiffe://mesh.local/ns/default/svc/web")
    assert not [name for name, _ in headers if name.startswith("x-envoy-")]
    assert "x-mesh-reason" not in answer.headers


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /admin HTTP/1.0\r\n\r\n",
        b"GET /admin HTTP/1.0\r\nHost: HOST\r\n\r\n",
        b"GET /admin\r\n\r\n",
        b"GET /admin HTTP/1.1\r\n\r\n",
        b"GET /admin HTTP/1.1\r\nHost: HOST\r\nHost: other\r\n\r\n",
        b"GET /admin HTTP/1.1\r\nHost: other\r\nHost: HOST\r\n\r\n",
        b"GET http://HOST/admin HTTP/1.1\r\nHost: other\r\n\r\n",
        b"GET https://HOST/admin HTTP/1.1\r\nHost: HOST\r\n\r\n",
        b"GET http://HOST@x/admin HTTP/1.1\r\nHost: HOST\r\n\r\n",
        b"GET /admin HTTP/1.1\r\nHost: HOST\r\nX-Forwarded-Host: other\r\n\r\n",
        b"GET /admin HTTP/1.1\r\nHost: HOST.default.mesh:80\r\n\r\n",
        b"GET /admin HTTP/1.1\r\nHost: HOST.\r\n\r\n",
        b"GET /admin HTTP/1.1\r\nHost: UPPER\r\n\r\n",
        b"GET /admin HTTP/1.1\r\nHost: x@HOST\r\n\r\n",
        b"CONNECT HOST:80 HTTP/1.1\r\nHost: HOST:80\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: HOST\r\n\r\n",
        b"get /admin HTTP/1.1\r\nHost: HOST\r\n\r\n",
        b"GET /public HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /admin HTTP/1.1\r\nHost: HOST\r\n\r\n",
        b"POST /public HTTP/1.1\r\nHost: HOST\r\nContent-Length: 4\r\nContent-Length: 0\r\n\r\n"
        b"GET /admin HTTP/1.1\r\nHost: HOST\r\n\r\n",
        b"GET /admin HTTP/1.1\r\nHost: HOST\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
        b"GET /admin HTTP/1.1\r\nHost: HOST\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n",
        b"GET /admin HTTP/1.1\r\nHost: HOST\r\nConnection: close, Host\r\n\r\n",
        b"GET /admin HTTP/2.0\r\nHost: HOST\r\n\r\n",
        b"\r\n\r\nGET /admin HTTP/1.1\r\nHost: HOST\r\n\r\n",
        b"GET\t/admin\tHTTP/1.1\r\nHost: HOST\r\n\r\n",
        b"GET  /admin HTTP/1.1\r\nHost: HOST\r\n\r\n",
        b"GET /admin HTTP/1.1\nHost: HOST\n\n",
    ],
)
@pytest.mark.parametrize("host", ["deny-prefix", "allow-prefix"])
def test_no_form_of_a_request_reaches_what_a_rule_refuses(
    mesh: Mapping[str, RunningEnvoy], host: str, request_bytes: bytes
) -> None:
    named = request_bytes.replace(b"HOST", host.encode()).replace(b"UPPER", host.upper().encode())
    answer = send(mesh["web"], named)
    reached = answer.said["resources"] if answer.said else []
    assert not [each for each in reached if refuses(host, each)]
