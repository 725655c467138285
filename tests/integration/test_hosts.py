"""Several hosts without containers: a network namespace each, only addresses between them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.sites import Site, Wires, has_namespaces, wired
from tests.support.servers import require

DOCUMENTS = """
apiVersion: mesh/v1
kind: Service
metadata: {name: api}
spec: {protocol: http, port: 80}
---
apiVersion: mesh/v1
kind: Service
metadata: {name: stock}
spec: {protocol: http, port: 80}
---
apiVersion: mesh/v1
kind: AccessPolicy
metadata: {name: shop}
spec:
  targetRefs: [{kind: Service, name: api}, {kind: Service, name: stock}]
  rules: [{name: web, action: allow, from: [{service: web}]}]
"""
FETCH = "import urllib.request as u; print(u.urlopen('http://{}/who').read().decode())"
SERVE = """
import http.server, sys
class Who(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(sys.argv[2].encode())
    def log_message(self, *_): pass
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Who)
print("serving", flush=True)
server.serve_forever()
"""

pytestmark = pytest.mark.skipif(
    not has_namespaces(), reason="needs root and iproute2: run as root, apt-get install iproute2"
)


@dataclass
class Hosts:
    """Machines with a state folder of their own, and the settings that all of them share."""

    folder: Path
    wires: Wires
    stack: ExitStack
    settings: dict[str, str]

    def environment(self, site: Site) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MESH_")}
        return kept | {"MESH_STATE": str(self.folder / site.name)} | self.settings

    def start(self, site: Site, *command: str, **settings: str) -> str:
        """A process on a host, ended with the test; its first line, which says that it serves."""
        with (self.folder / f"{site.name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*site.prefix, *command],
                env=self.environment(site) | settings,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.stack.callback(self._end, process)
        assert process.stdout is not None
        line = process.stdout.readline()
        if line.strip() == "{":  # an error as JSON takes several lines
            line = ""
        assert line, process.communicate()[0] + (self.folder / f"{site.name}.log").read_text()
        return line.strip()

    def run(self, site: Site, *command: str, **settings: str) -> str:
        """What a command on a host prints."""
        done = subprocess.run(
            [*site.prefix, *command],
            env=self.environment(site) | settings,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    @staticmethod
    def _end(process: subprocess.Popen[str]) -> None:
        process.terminate()
        process.communicate(timeout=30)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    with wired() as wires, ExitStack() as stack:
        yield Hosts(tmp_path, wires, stack, {})


MESH = (sys.executable, "-m", "mesh")


def store(hosts: Hosts) -> Site:
    """A host with etcd on it."""
    site = hosts.wires.site("store")
    clients, peers = f"http://{site.address}:2379", f"http://{site.address}:2380"
    command = (
        *(str(require("etcd")), "--data-dir", str(hosts.folder / "etcd"), "--name", "one"),
        *("--listen-client-urls", clients, "--advertise-client-urls", clients),
        *("--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers),
        *("--initial-cluster", f"one={peers}", "--log-level", "error"),
    )
    hosts.stack.enter_context(running([*site.prefix, *command]))
    hosts.settings["MESH_STORE"] = f"etcd://{site.address}:2379/mesh"
    return site


@contextmanager
def running(command: list[str]) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def token(hosts: Hosts, at: Site, service: str) -> Path:
    """A file with a join token, as somebody would carry it to the host."""
    path = hosts.folder / f"{service}.token"
    path.write_text(hosts.run(at, *MESH, "token", "create", "--service", service))
    path.chmod(0o600)
    return path


def test_sidecars_of_several_hosts_join_by_token_and_call_one_another(hosts: Hosts) -> None:
    at_store = store(hosts)
    policies = hosts.folder / "policies.yaml"
    policies.write_text(DOCUMENTS)
    hosts.run(at_store, *MESH, "apply", str(policies), "--yes")

    at_ca = hosts.wires.site("ca")
    serve = ("ca", "serve", "--listen", f"{at_ca.address}:8443", "--name", at_ca.address)
    said = json.loads(hosts.start(at_ca, *MESH, *serve, "--output", "json"))
    hosts.settings["MESH_CA"] = said["ca"]

    shop = hosts.wires.site("shop")  # two sidecars on one host
    for number, service in enumerate(("api", "stock")):
        app = f"127.0.0.1:{8080 + number}"
        who = f"{service} on {shop.name}"
        hosts.start(shop, sys.executable, "-c", SERVE, str(8080 + number), who)
        addresses = (
            *("--inbound", f"{shop.address}:{15006 + 10 * number}"),
            *("--outbound", f"127.0.0.1:{15001 + 10 * number}"),
        )
        sidecar = ("sidecar", "--service", service, "--app", app, *addresses)
        token_file = str(token(hosts, at_ca, service))
        hosts.start(shop, *MESH, *sidecar, MESH_TOKEN_FILE=token_file)

    front = hosts.wires.site("front")
    token_file = str(token(hosts, at_ca, "web"))
    for service in ("api", "stock"):
        call = ("--", sys.executable, "-c", FETCH.format(service))
        run = ("run", "--service", "web", *call)
        answer = hosts.run(front, *MESH, *run, MESH_TOKEN_FILE=token_file)
        assert answer == f"{service} on shop"

    listed = json.loads(hosts.run(at_store, *MESH, "status", "--output", "json"))["sidecars"]
    assert {(each["service"], each["state"]) for each in listed} == {
        ("api", "in-sync"),
        ("stock", "in-sync"),
    }
    # Whoever is on the network without a certificate gets nothing.
    plain = f"import urllib.request as u; u.urlopen('http://{shop.address}:15006/')"
    refused = subprocess.run(
        [*front.prefix, sys.executable, "-c", plain], capture_output=True, check=False, timeout=30
    )
    assert refused.returncode != 0
