import json
from datetime import timedelta
from pathlib import Path

import pytest

from mesh.adapters.issuer import LocalIssuer
from mesh.authority.publication import Publication, fingerprints
from mesh.ca.bundle import read_bundle, roots
from mesh.ca.service import ServiceStatus, read_status
from mesh.errors import Conflict, Corrupted, InputError
from mesh.model.identity import TrustBundle
from mesh.operations.trust import publish
from mesh.planning import keyspace, record
from mesh.ports import Put, Store, Transaction
from tests.support.authority import ShiftedClock, serving
from tests.support.revisions import CLOCK


def status(bundle: TrustBundle) -> ServiceStatus:
    return ServiceStatus(
        url="https://ca:8443",
        version="1",
        trust_domain=bundle.trust_domain,
        roots=fingerprints(bundle),
        not_after={"root": CLOCK.now()},
    )


async def bundle_of(folder: Path, trust_domain: str | None = None) -> TrustBundle:
    return await LocalIssuer(folder, clock=CLOCK, trust_domain=trust_domain).bundle()


async def published(store: Store) -> frozenset[bytes]:
    entry = (await store.fetch([keyspace.TRUST_BUNDLE]))[keyspace.TRUST_BUNDLE]
    return roots(read_bundle(json.loads(entry.value)))


async def put_bundle(store: Store, bundle: TrustBundle) -> None:
    value = {"trust_domain": bundle.trust_domain, "roots": bundle.roots_pem.decode()}
    await publish(store, record.serialize(value))


async def test_the_store_says_who_serves_while_it_serves(tmp_path: Path, store: Store) -> None:
    async with serving(tmp_path / "ca", store) as service:
        found = await store.fetch([keyspace.CA_STATUS, keyspace.CA_ALIVE])
        told = read_status(found[keyspace.CA_STATUS].value)
        assert keyspace.CA_ALIVE in found
        assert told.url == service.serving.url
        assert (told.version, told.trust_domain) == ("1.2.3", "mesh.local")
        assert told.roots == (service.serving.fingerprint,)
        assert set(told.not_after) == {"root", "intermediate", "server"}
        assert await published(store) == roots(await service.issuer.bundle())
    assert set(await store.scan("ca/")) == {keyspace.CA_STATUS}


async def test_roots_of_others_stay_and_own_ones_go_when_they_are_retired(
    tmp_path: Path, store: Store
) -> None:
    before, after, other = [await bundle_of(tmp_path / name) for name in ("a", "b", "c")]
    await put_bundle(store, other)
    publication = Publication(store)
    await publication.publish(before, status(before))
    assert await published(store) == roots(before) | roots(other)
    both = TrustBundle("mesh.local", before.roots_pem + after.roots_pem)
    await publication.publish(both, status(both))
    await Publication(store).publish(after, status(after))  # restarted in between
    assert await published(store) == roots(after) | roots(other)


async def test_an_authority_that_is_made_anew_keeps_the_roots_of_the_lost_one(
    tmp_path: Path, store: Store
) -> None:
    """What is joined goes on until it joins the new one."""
    lost, new = [await bundle_of(tmp_path / name) for name in ("lost", "new")]
    first = Publication(store)
    await first.publish(lost, status(lost))
    await first.withdraw()
    await Publication(store).publish(new, status(new))
    await Publication(store).publish(new, status(new))
    assert await published(store) == roots(lost) | roots(new)


async def test_an_authority_restored_from_before_its_rotation_keeps_the_later_root(
    tmp_path: Path, store: Store
) -> None:
    """It is no retired one: certificates under it live."""
    old = await bundle_of(tmp_path / "old")
    later = ShiftedClock(timedelta(minutes=5))
    new = await LocalIssuer(tmp_path / "new", clock=later).bundle()
    both = TrustBundle("mesh.local", new.roots_pem + old.roots_pem)
    await Publication(store).publish(both, status(both))
    await Publication(store).publish(old, status(old))
    assert await published(store) == roots(both)


async def test_a_wiped_store_is_filled_again(tmp_path: Path, store: Store) -> None:
    own = await bundle_of(tmp_path / "ca")
    publication = Publication(store)
    await publication.publish(own, status(own))
    keys = tuple(await store.scan(""))
    await store.commit(Transaction(deletes=keys))
    await publication.publish(own, status(own))
    assert tuple(await store.scan("")) == keys


async def test_what_did_not_change_is_not_written(tmp_path: Path, store: Store) -> None:
    own = await bundle_of(tmp_path / "ca")
    publication = Publication(store)
    told = status(own)
    await publication.publish(own, told)
    before = await store.scan("")
    await publication.publish(own, told)
    assert await store.scan("") == before


async def test_the_store_of_another_mesh_is_left_alone(tmp_path: Path, store: Store) -> None:
    other = await bundle_of(tmp_path / "other", "other.example")
    await put_bundle(store, other)
    with pytest.raises(InputError, match=r'"other\.example".*"mesh\.local"'):
        async with serving(tmp_path / "ca", store):
            pass
    assert await published(store) == roots(other)
    assert await store.scan("ca/") == {}


async def test_a_second_authority_is_refused_while_the_first_one_serves(
    tmp_path: Path, store: Store
) -> None:
    async with serving(tmp_path / "ca", store) as first:
        with pytest.raises(Conflict, match="another certificate authority") as caught:
            async with serving(tmp_path / "second", store):
                pass
        assert first.serving.url in caught.value.message
        async with serving(tmp_path / "ca", store):  # the same one again: a restart
            pass
    async with serving(tmp_path / "second", store):
        pass


async def test_a_bundle_that_cannot_be_read_is_named(tmp_path: Path, store: Store) -> None:
    own = await bundle_of(tmp_path / "ca")
    await store.commit(Transaction(puts=(Put(keyspace.TRUST_BUNDLE, b"{}"),)))
    with pytest.raises(Corrupted) as caught:
        await Publication(store).publish(own, status(own))
    assert keyspace.TRUST_BUNDLE in caught.value.hint


def test_what_is_no_status_is_refused() -> None:
    with pytest.raises(ValueError, match="status of a certificate authority"):
        read_status(b'{"url": 1}')
