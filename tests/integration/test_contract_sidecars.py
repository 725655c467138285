"""The outside contract of sidecars, tried as a user would: `mesh sidecar` and `mesh run` as
processes, requests and bytes through their listeners. Nothing here knows how they are made.
"""

import http.client
import json
import os
import re
import signal
import socket
import socketserver
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import echo
from tests.support.command import SECONDS, Mesh, Ran
from tests.support.leftovers import end_all
from tests.support.sidecars import exchange, request

DOCUMENTS = """
{apiVersion: mesh/v1, kind: Mesh, metadata: {name: mesh}, spec: {access: {default: deny}}}
---
{apiVersion: mesh/v1, kind: Service, metadata: {name: api}, spec: {protocol: http, port: 80}}
---
apiVersion: mesh/v1
kind: Service
metadata: {name: api-v1}
spec: {protocol: http, port: 80, instances: {service: api, meta: {version: v1}}}
---
apiVersion: mesh/v1
kind: Service
metadata: {name: api-v2}
spec: {protocol: http, port: 80, instances: {service: api, meta: {version: v2}, tags: [new]}}
---
{apiVersion: mesh/v1, kind: Service, metadata: {name: empty}, spec: {protocol: http, port: 8080}}
---
apiVersion: mesh/v1
kind: Service
metadata: {name: ledger, namespace: shop}
spec: {protocol: tcp, port: 7000}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: api}
spec:
  parentRefs: [{group: "", kind: Service, name: api}]
  rules:
    - matches: [{path: {value: /v2}}, {headers: [{name: x-beta, value: "1"}]}]
      backendRefs: [{name: api-v2, port: 80}]
    - matches: [{path: {value: /nothing}}]
    - matches: [{path: {value: /slow}}]
      timeouts: {request: 200ms}
      backendRefs: [{name: api-v1, port: 80}]
    - matches: [{path: {value: /v1}}, {path: {value: /write}}, {path: {value: /admin}}]
      backendRefs: [{name: api-v1, port: 80}, {name: api-v2, port: 80, weight: 0}]
---
apiVersion: mesh/v1
kind: AccessPolicy
metadata: {name: api}
spec:
  targetRefs: [{kind: Service, name: api}, {kind: Service, name: empty}]
  rules:
    - {name: web-reads, action: allow, from: [{service: web}], to: [{methods: [GET]}]}
    - {name: cron-is-seen, action: audit, from: [{service: cron, namespace: ops}]}
---
apiVersion: mesh/v1
kind: AccessPolicy
metadata: {name: more}
spec:
  targetRefs: [{kind: Service, name: api}]
  rules:
    - name: web-writes
      action: allow
      from: [{service: web}]
      to: [{methods: [POST], paths: [{prefix: /write}], headers: [{name: x-key, value: a}]}]
    - {name: no-admin, action: deny, to: [{paths: [{prefix: /admin}]}]}
---
apiVersion: mesh/v1
kind: AccessPolicy
metadata: {name: ledger, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: ledger}]
  rules: [{name: web, action: allow, from: [{service: web, namespace: default}]}]
"""
OPEN = """
{apiVersion: mesh/v1, kind: Mesh, metadata: {name: mesh}, spec: {access: {default: allow}}}
"""
LONG = "l" * 70
"""An id with which a socket's path passes 107 bytes."""


@dataclass
class Sidecar:
    """A running `mesh sidecar --output json`; `ready` is its one line."""

    process: subprocess.Popen[str]
    ready: dict[str, Any]

    @property
    def outbound(self) -> int:
        return int(self.ready["outbound"].rpartition(":")[2])

    def end(self) -> tuple[int, str]:
        """SIGTERM; the exit code and what else standard output had."""
        self.process.send_signal(signal.SIGTERM)
        rest, _ = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, rest


@dataclass
class Shop:
    """A mesh with its sidecars, by a name of the test's own."""

    mesh: Mesh
    stack: ExitStack
    sidecars: dict[str, Sidecar]

    def launch(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `mesh ...` under the most careless umask there is."""
        log = self.stack.enter_context((self.mesh.folder / "log").open("a"))
        process = self.stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "mesh", *arguments],
                cwd=self.mesh.folder,
                env=self.mesh.environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                umask=0,
            )
        )
        self.stack.callback(process.kill)
        return process

    def sidecar(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a sidecar on a free outbound port."""
        return self.launch("sidecar", "--output", "json", "--outbound", "127.0.0.1:0", *arguments)

    def apply(self, documents: str) -> Ran:
        ran = self.mesh("apply", "-", "--yes", "--output", "json", stdin=documents)
        assert ran.code == 0, ran
        return ran

    @contextmanager
    def changed(self, documents: str) -> Iterator[Ran]:
        """Other documents while the block runs."""
        try:
            yield self.apply(documents)
        finally:
            self.apply(DOCUMENTS)

    def run(self, script: str, *options: str) -> Ran:
        """A shell script under `mesh run` as web."""
        return self.mesh("run", "--service", "web", *options, "--", "sh", "-c", script)


def ready(process: subprocess.Popen[str]) -> Sidecar:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "the sidecar ended"
    return Sidecar(process, json.loads(line))


class Ledger(socketserver.BaseRequestHandler):
    """Answers bytes with `ledger ` and the same."""

    def handle(self) -> None:
        while received := self.request.recv(1024):
            self.request.sendall(b"ledger " + received)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    mesh = Mesh(tmp_path_factory.mktemp("shop"))
    with ExitStack() as stack:
        stack.callback(end_all, mesh.folder)
        apps = stack.enter_context(echo.running(["v1", "v2"]))
        ledger = stack.enter_context(
            socketserver.ThreadingTCPServer(("127.0.0.1", 0), Ledger, bind_and_activate=True)
        )
        ledger.daemon_threads = True
        threading.Thread(target=ledger.serve_forever, daemon=True).start()
        stack.callback(ledger.shutdown)
        shop = Shop(mesh, stack, {})
        shop.apply(DOCUMENTS)
        api = ("--service", "api", "--inbound", "127.0.0.1:0")
        shop.sidecars["v1"] = ready(
            shop.sidecar(*api, "--meta", "version=v1", "--app", f"127.0.0.1:{apps['v1']}")
        )
        tagged = (*api, "--meta", "version=v2", "--tag", "new", "--app", f"127.0.0.1:{apps['v2']}")
        port = ledger.server_address[1]
        in_shop = ("--service", "ledger", "--namespace", "shop", "--id", LONG)
        started = {
            "v2": shop.sidecar(*tagged),
            "ledger": shop.sidecar(*in_shop, "--inbound", "127.0.0.1:0", f"--app=127.0.0.1:{port}"),
            "web": shop.sidecar("--service", "web"),
            "cron": shop.sidecar("--service", "cron", "--namespace", "ops"),
        }
        shop.sidecars |= {name: ready(process) for name, process in started.items()}
        until_all_is_known(shop)
        yield shop


def until_all_is_known(shop: Shop) -> None:
    """Return once web has heard of every instance, and the store of every sidecar."""
    for path in ("/v1", "/v2"):
        for _ in range(1000):
            if request(shop.sidecars["web"].outbound, path).status == 200:
                break
    for _ in range(1000):
        if exchange(ledger_port(shop.sidecars["web"].ready), b"x", 8):
            break
    until_reported(shop, *(each.ready["id"] for each in shop.sidecars.values()))


def until_reported(shop: Shop, *ids: str) -> dict[str, dict[str, Any]]:
    """What `status` says once these sidecars have reported that they run head."""
    for _ in range(50):
        known = status(shop)
        if all(known.get(id, {}).get("state") == "in-sync" for id in ids):
            break
    return known


def ledger_port(said: Mapping[str, Any]) -> int:
    return int(said["upstreams"]["ledger.shop"].removeprefix("127.0.0.1:"))


def status(shop: Shop) -> dict[str, dict[str, Any]]:
    found = shop.mesh("status", "--output", "json").json
    return {each["id"]: each for each in found["sidecars"]}


# --- what a sidecar says --------------------------------------------------------------------------


def test_the_ready_object_and_status_say_the_same(shop: Shop) -> None:
    known = until_reported(shop, *(each.ready["id"] for each in shop.sidecars.values()))
    for each in shop.sidecars.values():
        said = each.ready
        keys = {"ready", "service", "namespace", "id", "inbound", "outbound", "upstreams"}
        assert {*keys, "revision"} <= set(said)
        assert said["ready"] is True
        mine = known[said["id"]]
        for key in ("service", "namespace", "inbound", "outbound", "upstreams"):
            assert mine[key] == said[key], key
        assert (mine["state"], mine["message"]) == ("in-sync", "")
        end = mine["certificate"]["not_after"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", end)
    assert shop.sidecars["web"].ready["inbound"] is None
    assert shop.sidecars["v1"].ready["upstreams"] == {}
    assert set(shop.sidecars["web"].ready["upstreams"]) == {"ledger.shop"}


def test_an_id_is_the_lowest_that_nobody_holds(shop: Shop) -> None:
    host = re.escape(socket.gethostname().split(".")[0])
    names = {"v1": "default-api-1", "v2": "default-api-2", "web": "default-web-1"}
    for name, end in (names | {"cron": "ops-cron-1"}).items():
        assert re.fullmatch(f"{host}.*-{end}", shop.sidecars[name].ready["id"])


def test_folders_and_files_are_private_whatever_the_umask(shop: Shop) -> None:
    wrong = []
    for each in (shop.mesh.folder / "state").rglob("*"):
        wanted = 0o700 if each.is_dir() else 0o600
        if stat.S_IMODE(each.lstat().st_mode) != wanted:
            wrong.append((each, oct(each.lstat().st_mode)))
    assert wrong == []


def test_sockets_lie_in_the_sidecars_folder_or_in_a_short_one_that_status_shows(
    shop: Shop,
) -> None:
    known = status(shop)
    own = shop.mesh.folder / "state" / "sidecars"
    usual = shop.sidecars["v1"].ready["id"]
    assert Path(known[usual]["sockets"]) == own / usual
    short = Path(known[LONG]["sockets"])
    assert short != own / LONG
    assert stat.S_IMODE(short.stat().st_mode) == 0o700
    for folder in (own / usual, short):
        assert {"ads.sock", "admin.sock"} <= {each.name for each in folder.iterdir()}
        assert len(os.fsencode(folder / "admin.sock")) <= 107


# --- requests -------------------------------------------------------------------------------------

HOSTS = ["api", "api:80", "api.default", "api.default.mesh", "api.default.mesh:80", "API"]


@pytest.mark.parametrize("host", HOSTS)
def test_a_service_is_reached_by_its_names(shop: Shop, host: str) -> None:
    answer = request(shop.sidecars["web"].outbound, "/v1", host=host)
    assert (answer.status, answer.reason) == (200, None)
    absolute = request(shop.sidecars["web"].outbound, f"http://{host}/v2", host=host)
    assert json.loads(absolute.body)["backend"] == "v2"


@dataclass(frozen=True)
class Told:
    """A request as somebody, and what the mesh answers by itself (or the backend that does)."""

    path: str
    status: int
    reason: str | None
    by: str = "web"
    method: str = "GET"
    host: str = "api"
    key: str = ""
    fail: str = "0 500"


ANSWERS = {
    "another port": Told("/v1", 404, "unknown-host", host="api:81"),
    "an unknown host": Told("/", 404, "unknown-host", host="elsewhere"),
    "out of scope": Told("/v1", 404, "unknown-host", by="v1"),
    "a short name of another namespace": Told("/v1", 404, "unknown-host", by="cron"),
    "audited is in scope and refused": Told(
        "/v1", 403, "access-denied", by="cron", host="api.default"
    ),
    "no rule matches": Told("/v11", 404, "no-route"),
    "no backend": Told("/nothing", 500, "no-backend"),
    "nothing is registered": Told("/", 503, "no-healthy-endpoint", host="empty:8080"),
    "too slow": Told("/slow", 504, "timeout", fail="1 hang"),
    "not allowed": Told("/v1", 403, "access-denied", method="POST"),
    "allowed": Told("/write/a", 200, None, method="POST", key="a"),
    "by path element": Told("/write", 200, None, method="POST", key="a"),
    "the fields of one item must all hold": Told(
        "/write", 403, "access-denied", method="POST", key="b"
    ),
    "deny beats allow": Told("/admin", 403, "access-denied"),
    "an escaped slash": Told("/v1%2Fa", 400, "bad-request"),
    "an escaped backslash": Told("/v1%5Ca", 400, "bad-request"),
    "an escaped NUL": Told("/v1%00", 400, "bad-request"),
    "an answer of the application": Told("/v1", 503, None, fail="1 503"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_what_a_sidecar_answers_itself_has_a_reason(shop: Shop, name: str) -> None:
    told = ANSWERS[name]
    headers = {"x-key": told.key, "x-echo-key": name, "x-echo-fail": told.fail}
    via = shop.sidecars[told.by].outbound
    answer = request(via, told.path, method=told.method, host=told.host, headers=headers)
    assert (answer.status, answer.reason) == (told.status, told.reason)
    if told.reason == "unknown-host":
        assert b"mesh describe" in answer.body
    for policy in (b"web-reads", b"no-admin", b"default-deny"):
        assert policy not in answer.body


def test_the_application_learns_who_calls(shop: Shop) -> None:
    lie = {"x-forwarded-client-cert": "URI=spiffe://mesh.local/ns/default/svc/boss"}
    answer = request(shop.sidecars["web"].outbound, "/v2/a?b=c", headers=lie)
    seen = json.loads(answer.body)
    assert seen["path"] == "/v2/a?b=c"
    (certificate,) = [value for name, value in seen["headers"] if name == "x-forwarded-client-cert"]
    assert "URI=spiffe://mesh.local/ns/default/svc/web" in certificate
    assert "boss" not in certificate


def test_rules_that_change_hold_on_old_connections_and_close_none(shop: Shop) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", shop.sidecars["web"].outbound, timeout=10)

    def ask() -> int:
        connection.request("GET", "/v1", headers={"Host": "api"})
        answer = connection.getresponse()
        answer.read()
        return answer.status

    try:
        assert ask() == 200
        own = connection.sock
        with shop.changed(DOCUMENTS.replace("[GET]", "[PUT]")) as ran:
            assert ran.json["sidecars"]["pending"] == 0
            assert ran.json["sidecars"]["accepted"] >= 2
            assert ask() == 403
        assert ask() == 200
        assert connection.sock is own
    finally:
        connection.close()


def test_without_documents_an_open_mesh_knows_what_is_registered(shop: Shop) -> None:
    with shop.changed(OPEN):
        for host in ("api.default", "api.default:80"):
            assert request(shop.sidecars["cron"].outbound, "/any", host=host).status == 200
    answer = request(shop.sidecars["v1"].outbound, "/any")
    assert answer.reason == "unknown-host"


# --- TCP ------------------------------------------------------------------------------------------


def test_a_tcp_service_has_a_port_of_its_own_at_callers_in_scope(shop: Shop) -> None:
    port = ledger_port(shop.sidecars["web"].ready)
    assert exchange(port, b"seven", 12) == b"ledger seven"
    assert shop.sidecars["cron"].ready["upstreams"] == {}


# --- run ------------------------------------------------------------------------------------------


def test_run_tells_its_command_the_way_and_returns_its_code(shop: Shop) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    fetch = f"{sys.executable} -m mesh.demo.shop get http://api/v2"
    told = "echo $http_proxy $no_proxy $MESH_OUTBOUND $MESH_UPSTREAM_LEDGER_SHOP"
    ran = shop.run(f"{told}; {fetch}; exit 7", "--upstream", f"ledger.shop={port}")
    assert ran.code == 7
    first, second = ran.out.splitlines()
    proxy, exempt, outbound, upstream = first.split()
    assert proxy == f"http://{outbound}"
    assert re.fullmatch(r"127\.0\.0\.1:\d+", outbound)
    assert exempt == "localhost,127.0.0.1,::1"
    assert upstream == f"127.0.0.1:{port}"
    assert second.startswith("200 ")
    assert '"backend": "v2"' in second


def test_run_passes_signals_on(shop: Shop) -> None:
    script = "trap 'echo ended; exit 9' TERM; echo begun; while :; do sleep 1 & wait; done"
    process = shop.launch("run", "--service", "web", "--", "sh", "-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=SECONDS)
    assert (process.returncode, rest) == (9, "ended\n")


# --- the end --------------------------------------------------------------------------------------


def test_a_sidecar_says_one_line_leaves_and_keeps_its_ports(shop: Shop) -> None:
    words = ("sidecar", "--service", "web", "--id", "again", "--outbound", "127.0.0.1:0")
    as_text = shop.launch(*words)
    assert as_text.stdout is not None
    first, *pairs = as_text.stdout.readline().split()
    said = dict(each.split("=", 1) for each in pairs)
    assert first == "ready"
    assert {"service": "default/web", "id": "again", "inbound": "-"}.items() <= said.items()
    assert int(said["revision"]) >= 1
    upstreams = until_reported(shop, "again")["again"]["upstreams"]
    assert Sidecar(as_text, {}).end() == (0, "")
    as_json = ready(shop.launch(*words, "--output", "json"))
    assert as_json.end() == (0, "")
    assert as_json.ready["outbound"] == said["outbound"]
    assert as_json.ready["upstreams"] == upstreams
    assert "again" not in status(shop)
