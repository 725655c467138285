"""The certificate authority's service on a real etcd, with and without its answers."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mesh.adapters.etcd import EtcdSettings, EtcdStore
from mesh.ca.service import read_status
from mesh.errors import Denied, Unavailable
from mesh.planning import keyspace
from mesh.ports import Store
from tests.support import servers
from tests.support.authority import Service, serving, svid_of
from tests.support.revisions import CLOCK
from tests.support.servers import Server


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Server]:
    with servers.etcd(tmp_path) as server:
        yield server


@pytest.fixture
async def store(etcd: Server) -> AsyncIterator[Store]:
    settings = EtcdSettings(endpoints=(etcd.endpoint,), prefix="mesh")
    async with EtcdStore(settings, clock=CLOCK) as store:
        yield store


@pytest.fixture
async def service(tmp_path: Path, store: Store) -> AsyncIterator[Service]:
    async with serving(tmp_path / "ca", store) as service:
        yield service


async def test_joins_at_once_never_share_a_use(service: Service, tmp_path: Path) -> None:
    token = await service.token(uses=3)

    async def join(number: int) -> bool:
        try:
            await svid_of(service.client(tmp_path / f"host{number}", token))
        except Denied:
            return False
        return True

    async with asyncio.TaskGroup() as group:
        tries = [group.create_task(join(number)) for number in range(12)]
    assert sum(task.result() for task in tries) == 3


async def test_without_etcd_nobody_joins_and_everybody_renews(
    service: Service, etcd: Server, tmp_path: Path
) -> None:
    token = await service.token(uses=2)
    svid = await svid_of(service.client(tmp_path / "host", token))
    etcd.kill()
    renewed = await svid_of(service.client(tmp_path / "host"), current=svid)
    assert renewed.identity == svid.identity
    with pytest.raises(Unavailable, match="the certificate authority"):
        await svid_of(service.client(tmp_path / "late", token))
    etcd.start()
    etcd.wait_ready()
    late = service.client(tmp_path / "late", token)
    while True:  # until the service's own connection is back
        try:
            assert (await svid_of(late)).identity == svid.identity
            break
        except Unavailable:
            continue
    found = (await service.store.fetch([keyspace.CA_STATUS]))[keyspace.CA_STATUS]
    assert read_status(found.value).url == service.serving.url
