import asyncio
import json
from pathlib import Path

from mesh.adapters.issuer import LocalIssuer
from mesh.ca.bundle import read_bundle, union, write_bundle
from mesh.errors import Unavailable
from mesh.model.identity import TrustBundle
from mesh.planning import keyspace, record
from mesh.ports import Put, Store, Transaction
from mesh.sidecar.late import LateStore
from mesh.sidecar.trust import TrustSource
from tests.support.revisions import CLOCK, Commits, once


def root(name: str) -> bytes:
    return f"-----BEGIN CERTIFICATE-----\n{name}\n-----END CERTIFICATE-----\n".encode()


def bundle(*names: str, domain: str = "mesh.local") -> TrustBundle:
    return TrustBundle(domain, b"".join(map(root, names)))


def test_union_has_each_root_once_and_the_published_first() -> None:
    assert union(bundle("a"), None) == bundle("a")
    assert union(bundle("a", "b"), bundle("c", "a")) == bundle("c", "a", "b")
    published = bundle("a", "b")
    assert union(bundle("b"), published) is published


def test_union_leaves_out_what_the_issuer_retired_and_other_trust_domains() -> None:
    old = root("old").strip()
    assert union(bundle("new"), bundle("old", "new", "other"), [old]) == bundle("new", "other")
    assert union(bundle("a"), bundle("b", domain="example.org")) == bundle("a")


async def published(commits: Commits) -> TrustBundle | None:
    entry = (await commits.store.fetch([keyspace.TRUST_BUNDLE])).get(keyspace.TRUST_BUNDLE)
    return read_bundle(json.loads(entry.value)) if entry else None


async def test_hosts_with_authorities_of_their_own_trust_one_another(
    commits: Commits, tmp_path: Path
) -> None:
    issuers = [LocalIssuer(tmp_path / name, clock=CLOCK) for name in ("ca1", "ca2")]
    both = [await issuer.bundle() for issuer in issuers]
    sources = [TrustSource(commits.store, issuer, CLOCK) for issuer in issuers]
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(source.run()) for source in sources]
        for source in sources:
            await once(source.newest, lambda b: b is not None and b.roots_pem.count(b"BEGIN") == 2)
        for task in running:
            task.cancel()
    found = await published(commits)
    assert found is not None
    assert union(both[0], found) == union(both[1], found) == found


def unreachable() -> Store:
    raise Unavailable("nobody answers")


async def test_without_a_store_the_issuer_and_the_remembered_count(tmp_path: Path) -> None:
    issuer = LocalIssuer(tmp_path / "ca", clock=CLOCK)
    never = LateStore(unreachable, CLOCK)
    source = TrustSource(never, issuer, CLOCK, bundle("remembered"))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(source.run())
        newest = await once(source.newest, lambda b: b is not None and b != bundle("remembered"))
        running.cancel()
    assert newest == union(await issuer.bundle(), bundle("remembered"))


async def test_what_an_authority_publishes_itself_is_followed_and_never_written(
    commits: Commits,
) -> None:
    source = TrustSource(commits.store, None, CLOCK, bundle("remembered"))
    assert source.newest.value == bundle("remembered")
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(source.run())
        for wanted in (bundle("a"), bundle("a", "b"), bundle("b")):
            value = record.serialize(write_bundle(wanted))
            await commits.store.commit(Transaction(puts=(Put(keyspace.TRUST_BUNDLE, value),)))
            await once(source.newest, lambda newest, wanted=wanted: newest == wanted)
            assert await published(commits) == wanted
        running.cancel()
