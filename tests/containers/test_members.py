"""Members of a mesh in containers, on servers with TLS and access rules."""

import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

from mesh.testing import (
    CAContainer,
    ConsulContainer,
    EtcdCluster,
    ServerAuthority,
    Servers,
    SidecarContainer,
    image,
    run_mesh,
)

POLICIES = """
apiVersion: mesh/v1
kind: Service
metadata: {name: stock}
spec: {protocol: http, port: 80}
---
apiVersion: mesh/v1
kind: AccessPolicy
metadata: {name: stock}
spec:
  targetRefs: [{kind: Service, name: stock}]
  rules:
    - {name: web-reads, action: allow, from: [{service: web}], to: [{methods: [GET]}]}
"""


@dataclass(frozen=True)
class World:
    ca: CAContainer
    web: SidecarContainer
    stock: SidecarContainer
    store: str


@pytest.fixture(scope="module")
def world(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with (
        EtcdCluster(network, name="store", authority=ServerAuthority(), auth=True) as etcd,
        ConsulContainer(network, acl=True) as consul,
        CAContainer(network, Servers(etcd, consul, consul.token)) as ca,
    ):
        store = etcd.store(tmp_path_factory.mktemp("store"))
        file = tmp_path_factory.mktemp("policies") / "stock.yaml"
        file.write_text(POLICIES)
        run_mesh("apply", str(file), "--yes", store=store)
        app = DockerContainer(image("mesh"), entrypoint=["python3", "-m", "mesh.demo.shop"])
        app.with_network(network).with_command("stock --port 8000")
        with (
            app,
            SidecarContainer(network, ca, "stock", app="127.0.0.1:8000", beside=app) as stock,
            SidecarContainer(network, ca, "web") as web,
        ):
            web.wait_for("stock")
            yield World(ca, web, stock, store)


def ask(world: World, method: str) -> int:
    url = f"http://{world.web.outbound()}/"
    request = urllib.request.Request(url, method=method, headers={"host": "stock"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_web_may_read(world: World) -> None:
    assert ask(world, "GET") == 200


def test_web_may_not_write(world: World) -> None:
    assert ask(world, "POST") == 403


def test_both_are_where_the_policies_are(world: World) -> None:
    assert run_mesh("status", store=world.store).count("in-sync") == 2


def test_a_member_says_that_it_is_healthy(world: World) -> None:
    assert "serving (LIVE)" in world.stock.mesh("health")


def test_a_token_admits_one_host(world: World, network: Network, tmp_path: Path) -> None:
    token = world.ca.join_token("late")
    assert token
    listed = run_mesh("token", "list", store=world.store)
    assert "late" in listed
    assert token not in listed
