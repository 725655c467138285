"""The containers of etcd and Consul, asked by the project's own adapters; Redis by its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

from mesh.adapters.clock import SystemClock
from mesh.adapters.etcd import EtcdStore
from mesh.adapters.etcd.settings import EtcdSettings
from mesh.errors import Denied, OutsideError
from mesh.ports import Put, Transaction
from mesh.settings import EtcdStore as Named
from mesh.settings import read_settings
from mesh.testing import (
    ConsulAgentContainer,
    ConsulContainer,
    EtcdCluster,
    ServerAuthority,
    image,
)
from mesh.testing.local import LocalContainer


@pytest.fixture(scope="module")
def cluster(network: Network) -> Iterator[EtcdCluster]:
    with EtcdCluster(network, 3, authority=ServerAuthority(), auth=True) as running:
        yield running


@pytest.fixture(scope="module")
def consul(network: Network) -> Iterator[ConsulContainer]:
    with ConsulContainer(network, acl=True) as running:
        yield running


def store(url: str) -> EtcdStore:
    given = read_settings({"store": url}, {}).store
    assert isinstance(given, Named)
    settings = EtcdSettings(
        endpoints=given.endpoints,
        prefix=given.prefix,
        cacert=given.cacert,
        cert=given.cert,
        key=given.key,
    )
    return EtcdStore(settings, clock=SystemClock())


async def test_three_members_with_tls_serve_a_client_s_certificate(
    cluster: EtcdCluster, tmp_path: Path
) -> None:
    async with store(cluster.store(tmp_path)) as etcd:
        await etcd.commit(Transaction(puts=(Put("a", b"1"),)))
        assert (await etcd.fetch(["a"]))["a"].value == b"1"
    assert cluster.leader() in cluster.members


async def test_the_access_rules_confine_the_user_to_the_prefix(
    cluster: EtcdCluster, tmp_path: Path
) -> None:
    elsewhere = cluster.store(tmp_path).replace("/mesh?", "/others?")
    with pytest.raises(Denied):
        async with store(elsewhere) as etcd:
            await etcd.commit(Transaction(puts=(Put("a", b"1"),)))


async def test_without_a_certificate_nobody_is_served(cluster: EtcdCluster, tmp_path: Path) -> None:
    url = cluster.store(tmp_path).partition("&cert=")[0]
    with pytest.raises(OutsideError):
        async with store(url) as etcd:
            await etcd.fetch(["a"])


async def test_one_member_without_anything(network: Network, tmp_path: Path) -> None:
    with EtcdCluster(network, name="plain") as plain:
        async with store(plain.store(tmp_path)) as etcd:
            await etcd.commit(Transaction(puts=(Put("a", b"1"),)))
        assert plain.inner_store() == "etcd://plain:2379/mesh"


def test_a_client_agent_joins_and_the_token_is_what_lets_a_host_register(
    network: Network, consul: ConsulContainer
) -> None:
    service = {"Name": "web", "ID": "web-1", "Port": 80}
    with ConsulAgentContainer(network, consul) as agent:
        with pytest.raises(OutsideError, match="403"):
            agent.ask("PUT", "agent/service/register", service)
        agent.ask("PUT", "agent/service/register", service, consul.token)
        found = agent.ask("GET", "agent/services", token=consul.token)
        assert isinstance(found, dict)
        assert list(found) == ["web-1"]


def test_redis_serves_its_neighbours_and_runs_scripts(network: Network) -> None:
    """Nothing but an image yet, for what counts across hosts: its neighbours reach it."""
    redis = LocalContainer(image("redis"), network, "redis")
    redis.waiting_for(LogMessageWaitStrategy("Ready to accept").with_startup_timeout(20))
    caller = LocalContainer(image("redis"), network, "caller").with_command(["sleep", "60"])
    count = ["eval", "return redis.call('incrby', KEYS[1], ARGV[1])", "1", "requests", "3"]
    with redis, caller:
        answers = [caller.exec(["redis-cli", "-h", "redis", *count]).output for _ in range(2)]
    assert answers == [b"3\n", b"6\n"]
