import asyncio
import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mesh.model.catalog import Catalog, Endpoint, Health
from mesh.model.identity import SVID, Identity, ServiceName, TrustBundle
from mesh.sidecar.cache import Cache
from mesh.sidecar.policies import PolicySource, Scope
from mesh.sidecar.remembered import Remembered
from tests.support.revisions import CLOCK, Commits, once

WEB = ServiceName("default", "web")
API = ServiceName("default", "api")
NOW = datetime(2026, 3, 1, tzinfo=UTC)
SVID_ = SVID(Identity("mesh.local", WEB), b"chain", b"secret key", NOW, NOW + timedelta(hours=1))
BUNDLE = TrustBundle("mesh.local", b"roots")
CATALOG = Catalog(
    {
        API: (
            Endpoint(
                id="a",
                service=API,
                address="192.0.2.1",
                port=1,
                meta={"version": "v1"},
                tags=frozenset({"x"}),
                datacenter="dc1",
                health=Health.DEGRADED,
            ),
        ),
        WEB: (),
    },
    frozenset({API}),
)
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
KNOWN = Remembered(scope=Scope(), catalog=CATALOG, svid=SVID_, bundle=BUNDLE)


def modes(folder: Path) -> set[int]:
    return {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


def inodes(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_ino for file in folder.iterdir()}


async def test_all_comes_back_and_the_key_with_it(tmp_path: Path) -> None:
    await Cache(tmp_path, WEB).save(KNOWN)
    found = await Cache(tmp_path, WEB).load()
    assert found == KNOWN
    assert found.svid is not None
    assert found.svid.private_key_pem == b"secret key"
    assert modes(tmp_path) == {0o600}


async def test_a_clean_start_where_there_is_nothing(tmp_path: Path) -> None:
    assert await Cache(tmp_path, WEB).load() == Remembered()


@pytest.mark.parametrize("file", ["policies.json", "catalog.json", "certificate.json"])
async def test_one_damaged_file_costs_only_its_part(tmp_path: Path, file: str) -> None:
    await Cache(tmp_path, WEB).save(KNOWN)
    (tmp_path / file).write_bytes((tmp_path / file).read_bytes()[:-3])
    found = await Cache(tmp_path, WEB).load()
    expected = {
        "policies.json": replace(KNOWN, scope=None),
        "catalog.json": replace(KNOWN, catalog=None),
        "certificate.json": replace(KNOWN, svid=None, bundle=None),
    }
    assert found == expected[file]


async def test_what_another_service_left_under_the_id_is_not_used(tmp_path: Path) -> None:
    await Cache(tmp_path, WEB).save(KNOWN)
    assert await Cache(tmp_path, API).load() == Remembered()


async def test_only_what_changed_is_written_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path, WEB)
    await cache.save(KNOWN)
    before = inodes(tmp_path)
    await cache.save(replace(KNOWN, catalog=Catalog({API: ()})))
    after = inodes(tmp_path)
    assert {name for name in before if before[name] != after[name]} == {"catalog.json"}
    await cache.save(Remembered())
    assert (await cache.load()).svid == SVID_


async def test_a_revision_comes_back_with_its_places(tmp_path: Path, commits: Commits) -> None:
    await commits(DOCUMENTS)
    source = PolicySource(commits.store, WEB, CLOCK)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(source.run())
        known = await once(source.newest, lambda scope: scope is not None)
        running.cancel()
    assert known is not None
    assert known.policies
    folder = tmp_path / "cache"
    folder.mkdir()
    await Cache(folder, WEB).save(Remembered(scope=known))
    found = (await Cache(folder, WEB).load()).scope
    assert found is not None
    assert (found.policies, found.objects, found.revision) == (known.policies, known.objects, 1)
