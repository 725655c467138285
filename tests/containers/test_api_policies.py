"""The policies of `mesh init`, tried on real servers, a real authority and real Envoys."""

import urllib.error
import urllib.request

import pytest
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

from mesh.testing import (
    CAContainer,
    ConsulContainer,
    EtcdCluster,
    Servers,
    SidecarContainer,
    run_mesh,
)

SHOP = ["python3", "-m", "mesh.demo.shop"]  # instead of your own program


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    with (
        Network() as network,
        EtcdCluster(network) as etcd,
        ConsulContainer(network) as consul,
        CAContainer(network, Servers(etcd, consul)) as ca,
    ):
        store = etcd.store(tmp_path_factory.mktemp("certificates"))
        policies = str(tmp_path_factory.mktemp("policies"))
        run_mesh("init", policies, store=store)  # instead of your own folder
        run_mesh("apply", policies, "--yes", store=store)
        app = DockerContainer("mesh:dev", entrypoint=SHOP, network=network)
        with (
            app.with_command("api --port 8000"),
            SidecarContainer(network, ca, "api", app="127.0.0.1:8000", beside=app),
            SidecarContainer(network, ca, "web") as web,
        ):
            web.wait_for("api")
            yield web


def call(web, method):
    url = f"http://{web.outbound()}/items"
    request = urllib.request.Request(url, method=method, headers={"host": "api"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_web_may_read(web):
    assert call(web, "GET") == 200


def test_nobody_may_delete(web):
    assert call(web, "DELETE") == 403
