"""Private keys are nowhere but in their owners' files and in Envoys' memory.

A whole mesh on etcd and Consul runs with debug logs and an open umask; every key that it made is
then looked for in everything that others might read.
"""

import json
import os
import re
import stat
import urllib.error
import urllib.request
from base64 import b64decode
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

import pytest

from mesh.adapters.consul import ConsulDiscovery, ConsulSettings
from mesh.adapters.etcd import EtcdSettings, EtcdStore
from mesh.ports import Discovery, Store
from tests.support import servers
from tests.support.envoy import Admin
from tests.support.etcd import etcdctl
from tests.support.mesh_host import CLOCK, Host
from tests.support.servers import Server

DOCUMENTS = """
apiVersion: mesh/v1
kind: Service
metadata: {name: api}
spec: {protocol: http, port: 80}
---
apiVersion: mesh/v1
kind: AccessPolicy
metadata: {name: api}
spec:
  targetRefs: [{kind: Service, name: api}]
  rules: [{name: web, action: allow, from: [{service: web}]}]
"""
PEM = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----(.*?)-----END", re.DOTALL)
MARK = b"PRIVATE KEY"


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Server]:
    with servers.etcd(tmp_path) as server:
        yield server


@pytest.fixture
def consul(tmp_path: Path) -> Iterator[Server]:
    with servers.consul(tmp_path) as server:
        yield server


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
async def host(etcd: Server, consul: Server, open_umask: None) -> AsyncIterator[Host]:
    def store() -> Store:
        return EtcdStore(EtcdSettings(endpoints=(etcd.endpoint,)), clock=CLOCK)

    def discovery(_: Store) -> Discovery:
        return ConsulDiscovery(ConsulSettings(address=consul.endpoint), clock=CLOCK)

    environment = {
        "MESH_STORE": f"etcd://{etcd.endpoint}/mesh",
        "MESH_DISCOVERY": f"consul://{consul.endpoint}",
    }
    async with Host(store, discovery, environment) as host:
        yield host


def keys_of(state: Path) -> dict[str, Path]:
    """A piece of each private key that lies in the state folder, and the file that has it."""
    found = {}
    for file in state.rglob("*"):
        if file.is_file():
            for body in PEM.findall(file.read_text(errors="replace").replace("\\n", "\n")):
                # From the middle: the beginning is the same for every key of a curve.
                found["".join(body.split())[60:100]] = file
    return found


def config_dump(socket: Path) -> bytes:
    admin = Admin(socket)
    try:
        admin.request("GET", "/config_dump?include_eds")
        return admin.getresponse().read()
    finally:
        admin.close()


def consul_says(server: Server, path: str) -> bytes:
    url = f"http://{server.endpoint}{path}"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError:  # there is no key at all
        return b""


def everything(
    host: Host, etcd: Server, consul: Server, folder: Path, pids: Iterable[int]
) -> Iterator[tuple[str, bytes]]:
    """All that others might read, with what it is."""
    pairs = json.loads(etcdctl(etcd, "get", "--prefix", "", "--write-out=json"))["kvs"]
    assert pairs
    for pair in pairs:
        yield f"etcd {b64decode(pair['key']).decode()}", b64decode(pair["value"])
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert any(file.name == "db" for file in files), "etcd's own file"
    for file in (*files, host.folder / "mesh.log", host.folder / "next.plan"):
        yield str(file), file.read_bytes()
    for path in ("/v1/kv/?recurse", "/v1/agent/services", "/v1/catalog/service/api"):
        yield f"consul {path}", consul_says(consul, path)
    for log in host.state.glob("sidecars/*/*.log"):
        yield str(log), log.read_bytes()
    for pid in pids:
        for what in ("cmdline", "environ"):
            yield f"{what} of {pid}", Path(f"/proc/{pid}/{what}").read_bytes()


async def test_no_private_key_is_anywhere_else(
    host: Host, etcd: Server, consul: Server, tmp_path: Path
) -> None:
    policies = host.folder / "policies.yaml"
    policies.write_text(DOCUMENTS)
    plan = ("plan", str(policies), "--out", str(host.folder / "next.plan"), "--verbose")
    process = await host.mesh(*plan)
    await process.communicate()
    assert process.returncode == 0
    await host.apply(DOCUMENTS)
    api = await host.spawn("api", host.apps("api")["api"], "--verbose")
    web = await host.spawn("web", None, "--verbose")
    await host.until(web, "api")
    keys = keys_of(host.state)
    owners = {file.name for file in keys.values()}
    assert len(keys) >= 4, "two of the authority, one of each sidecar"
    assert "certificate.json" in owners
    seen = 0
    pids = (api.process.pid, api.envoy, web.process.pid, web.envoy)
    for what, data in everything(host, etcd, consul, tmp_path, pids):
        seen += 1
        assert MARK not in data, what
        for piece in keys:
            assert piece.encode() not in data, what
    assert seen > 20
    for sidecar in (api, web):
        dump = config_dump(sidecar.folder / "admin.sock")
        assert b"[redacted]" in dump
        assert MARK not in dump
        assert not [piece for piece in keys if piece.encode() in dump]


async def test_no_private_key_is_in_the_embedded_store(open_umask: None) -> None:
    async with Host() as host:
        await host.apply(DOCUMENTS)
        await host.spawn("api", host.apps("api")["api"], "--verbose")
        web = await host.spawn("web", None, "--verbose")
        await host.until(web, "api")
        keys = keys_of(host.state)
        assert len(keys) >= 4, "two of the authority, one of each sidecar"
        store = {file.name: file.read_bytes() for file in host.state.glob("mesh.db*")}
        assert {"mesh.db", "mesh.db-wal"} <= store.keys(), "its journal is read as well"
        logs = {file.name: file.read_bytes() for file in host.state.glob("sidecars/*/*.log")}
        for what, data in (store | logs).items():
            assert MARK not in data, what
            assert not [piece for piece in keys if piece.encode() in data], what
        assert b"BEGIN CERTIFICATE" in b"".join(store.values()), "the trust bundle is in it"


async def test_what_lies_on_disk_is_its_owners_alone(host: Host) -> None:
    await host.apply(DOCUMENTS)
    await host.spawn("api", host.apps("api")["api"])
    for path in (host.state, *host.state.rglob("*")):
        status = path.lstat()
        mode = stat.S_IMODE(status.st_mode)
        assert not mode & 0o077, f"{path} {mode:04o}"
        assert mode == 0o700 or not stat.S_ISDIR(status.st_mode), path


async def test_a_command_that_runs_beside_a_sidecar_gets_no_key(host: Host) -> None:
    await host.apply(DOCUMENTS)
    process = await host.mesh("run", "--service", "web", "--", "env")
    out, _ = await process.communicate()
    assert process.returncode == 0
    assert b"MESH_OUTBOUND=" in out
    assert MARK not in out
