import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from mesh.adapters.embedded import EmbeddedStore
from mesh.model.identity import ServiceName
from mesh.model.policy import Mesh, PolicyKey
from mesh.operations.apply import Terms, apply
from mesh.operations.history import prepare_rollback
from mesh.planning import keyspace, record
from mesh.planning.enclosure import enclosed
from mesh.ports import Put, Transaction
from mesh.sidecar.head import INTERVAL
from mesh.sidecar.policies import PolicySource, Scope
from tests.support.manual_clock import ManualClock
from tests.support.revisions import CLOCK, Commits, once

API = """
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
---
"""
OTHER = """
apiVersion: mesh/v1
kind: Service
metadata: {name: other}
spec: {protocol: http, port: PORT}
---
"""
MESH = """
apiVersion: mesh/v1
kind: Mesh
metadata: {name: mesh}
spec: {trustDomain: example.org}
"""
WEB = ServiceName("default", "web")


@contextlib.asynccontextmanager
async def following(source: PolicySource) -> AsyncIterator[PolicySource]:
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(source.run())
        yield source
        running.cancel()


async def test_an_empty_mesh_is_known_as_such(commits: Commits) -> None:
    async with following(PolicySource(commits.store, WEB, CLOCK)) as source:
        scope = await once(source.newest, lambda s: s is not None)
    assert scope == Scope()
    assert scope.revision == 0
    assert scope.mesh == Mesh(key=PolicyKey("Mesh", "default", "mesh"))


async def test_only_what_concerns_the_service_is_read(commits: Commits) -> None:
    await commits(API + OTHER.replace("PORT", "1") + MESH)
    async with following(PolicySource(commits.store, WEB, CLOCK)) as source:
        scope = await once(source.newest, lambda s: s is not None)
        assert scope is not None
        assert sorted(map(str, scope.policies)) == [
            "AccessPolicy default/api",
            "Mesh default/mesh",
            "Service default/api",
        ]
        assert scope.mesh.trust_domain == "example.org"
        assert set(scope.objects) == {a.entry.digest for a in scope.policies.values()}
        await commits(API + OTHER.replace("PORT", "2"))
        scope = await once(source.newest, lambda s: s is not None and s.revision == 2)
    assert scope is not None
    assert len(scope.policies) == 2


async def test_what_is_known_by_its_digest_is_not_read_again(commits: Commits) -> None:
    await commits(API)
    async with following(PolicySource(commits.store, WEB, CLOCK)) as source:
        scope = await once(source.newest, lambda s: s is not None)
        assert scope is not None
        keys = tuple(keyspace.policy(digest) for digest in scope.objects)
        await commits.store.commit(Transaction(deletes=keys))
        await commits(API + OTHER.replace("PORT", "1"))
        newer = await once(source.newest, lambda s: s is not None and s.revision == 2)
    assert newer is not None
    assert newer.objects == scope.objects


async def test_of_a_storm_the_first_and_then_the_newest_is_read(commits: Commits) -> None:
    clock = ManualClock()
    await commits(API)
    async with following(PolicySource(commits.store, WEB, clock)) as source:
        await once(source.newest, lambda s: s is not None and s.revision == 1)
        read = source.newest.version
        for port in range(3):
            await commits(API + OTHER.replace("PORT", str(port + 1)))
        while source.head < 4:
            await CLOCK.sleep(timedelta(milliseconds=1))
        assert source.newest.version == read
        clock.advance(INTERVAL)
        await once(source.newest, lambda s: s is not None and s.revision == 4)
        assert source.newest.version == read + 1


async def test_what_is_enclosed_with_head_is_not_asked_for(
    commits: Commits, tmp_path: Path
) -> None:
    await commits(API + OTHER.replace("PORT", "1"))
    head = await commits.store.fetch([keyspace.HEAD, keyspace.ENCLOSED])
    async with EmbeddedStore(tmp_path / "bare.db", clock=CLOCK) as bare:  # head, and nothing else
        await bare.commit(Transaction(puts=tuple(Put(k, e.value) for k, e in head.items())))
        async with following(PolicySource(bare, WEB, CLOCK)) as source:
            scope = await once(source.newest, lambda s: s is not None)
    assert scope is not None
    assert len(scope.policies) == 2


async def test_an_enclosure_that_is_damaged_or_of_another_commit_does_no_harm(
    commits: Commits,
) -> None:
    await commits(API)
    older = (await commits.store.fetch([keyspace.ENCLOSED]))[keyspace.ENCLOSED].value
    await commits(API + OTHER.replace("PORT", "1"))
    for enclosure in (older, b"{", older.replace(b"api", b"apx")):
        await commits.store.commit(Transaction(puts=(Put(keyspace.ENCLOSED, enclosure),)))
        async with following(PolicySource(commits.store, WEB, CLOCK)) as source:
            scope = await once(source.newest, lambda s: s is not None)
        assert scope is not None
        assert (scope.revision, len(scope.policies)) == (2, 2)


async def test_a_rollback_encloses_what_it_brings_back(commits: Commits) -> None:
    await commits(API)
    await commits(API.replace("port: 80", "port: 81"))
    prepared = await prepare_rollback(commits.store, 1, None)
    await apply(commits.store, CLOCK, prepared, Terms(), lambda _: None)
    entries = await commits.store.fetch([keyspace.HEAD, keyspace.ENCLOSED])
    pieces = enclosed(entries[keyspace.ENCLOSED].value)
    async with following(PolicySource(commits.store, WEB, CLOCK)) as source:
        scope = await once(source.newest, lambda s: s is not None and s.revision == 3)
    assert scope is not None
    changed = scope.policies[PolicyKey("Service", "default", "api")].entry.digest
    assert changed in pieces


async def test_a_revision_that_cannot_be_read_leaves_the_last_one_until_the_next(
    commits: Commits,
) -> None:
    await commits(API)
    good = (await commits.store.fetch([keyspace.HEAD]))[keyspace.HEAD].value
    head = record.parse_record(good)
    lost = replace(head, chunks=(record.ChunkRef("default", "Service", "0" * 64),))
    async with following(PolicySource(commits.store, WEB, CLOCK)) as source:
        known = await once(source.newest, lambda s: s is not None)
        await put_head(commits, record.write_record(lost))
        async with asyncio.timeout(10):
            while source.trouble is None:
                await CLOCK.sleep(timedelta(milliseconds=5))
        assert "collected" in source.trouble
        assert source.newest.value == known
        await put_head(commits, good.replace(b'"number":1', b'"number":7'))
        await once(source.newest, lambda s: s is not None and s.revision == 7)
        assert source.trouble is None


async def put_head(commits: Commits, data: bytes) -> None:
    await commits.store.commit(Transaction(puts=(Put(keyspace.HEAD, data),)))


async def test_what_was_remembered_stands_in_until_the_store_answers(commits: Commits) -> None:
    await commits(API)
    async with following(PolicySource(commits.store, WEB, CLOCK)) as source:
        known = await once(source.newest, lambda s: s is not None)
    assert known is not None
    later = PolicySource(commits.store, WEB, CLOCK)
    later.recall(known)
    assert later.newest.value == known
    later.recall(Scope())
    assert later.newest.value == known
    await commits(MESH)
    async with following(later):
        await once(later.newest, lambda s: s is not None and s.revision == 2)


async def test_a_store_that_went_back_changes_nothing_until_it_is_ahead(commits: Commits) -> None:
    await commits(API)
    older = (await commits.store.fetch([keyspace.HEAD]))[keyspace.HEAD].value
    await commits(API + OTHER.replace("PORT", "1"))
    async with following(PolicySource(commits.store, WEB, CLOCK)) as source:
        newest = await once(source.newest, lambda s: s is not None and s.revision == 2)
        for write in (
            Transaction(puts=(Put(keyspace.HEAD, older),)),
            Transaction(deletes=(keyspace.HEAD,)),
        ):
            await commits.store.commit(write)
            while "revision" not in (source.trouble or ""):
                await CLOCK.sleep(timedelta(milliseconds=1))
            assert source.newest.value is newest
        await commits.store.commit(Transaction(puts=(Put(keyspace.HEAD, older),)))
        await commits(API + OTHER.replace("PORT", "2"))  # 2 again, another one
        await commits(API + OTHER.replace("PORT", "3"))
        healed = await once(source.newest, lambda s: s is not None and s.revision == 3)
    assert healed is not None
    assert source.trouble is None


async def test_what_was_remembered_holds_against_an_older_store(commits: Commits) -> None:
    await commits(API)
    older = (await commits.store.fetch([keyspace.HEAD]))[keyspace.HEAD].value
    await commits(API + MESH)
    async with following(PolicySource(commits.store, WEB, CLOCK)) as source:
        remembered = await once(source.newest, lambda s: s is not None)
    await commits.store.commit(Transaction(puts=(Put(keyspace.HEAD, older),)))
    async with following(PolicySource(commits.store, WEB, CLOCK, remembered)) as source:
        assert await once(source.newest, lambda s: s is not None) is remembered
        assert "went back from revision 2 to 1" in (source.trouble or "")
