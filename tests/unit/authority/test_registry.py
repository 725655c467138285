import asyncio
from datetime import timedelta

import pytest

from mesh.authority.registry import Registry
from mesh.ca import tokens
from mesh.ca.tokens import Refusal
from mesh.errors import Corrupted, InputError, NotFound
from mesh.model.identity import ServiceName
from mesh.planning import keyspace
from mesh.ports import Put, Store, Transaction
from tests.support.manual_clock import ManualClock
from tests.support.revisions import CLOCK

WEB = ServiceName("default", "web")
HOUR = timedelta(hours=1)


async def test_what_is_kept_of_a_token_is_its_hash_and_its_limits(store: Store) -> None:
    token, record = await Registry(store, CLOCK).create(WEB, ttl=HOUR, uses=3)
    assert tokens.is_token(token)
    ((key, entry),) = (await store.scan(keyspace.TOKENS)).items()
    assert key == keyspace.token(tokens.digest_of(token))
    assert token.removeprefix(tokens.PREFIX).encode() not in entry.value
    assert tokens.read_token(entry.value) == record
    assert (record.service, record.uses, record.expires - record.created) == (WEB, 3, HOUR)


@pytest.mark.parametrize(
    ("ttl", "uses"),
    [(timedelta(), 1), (-HOUR, 1), (timedelta(days=31), 1), (HOUR, 0), (HOUR, 1001)],
)
async def test_limits_are_limited(store: Store, ttl: timedelta, uses: int) -> None:
    with pytest.raises(InputError):
        await Registry(store, CLOCK).create(WEB, ttl=ttl, uses=uses)
    assert await Registry(store, CLOCK).all() == ()


async def test_joins_at_once_never_share_a_use(store: Store) -> None:
    token, _ = await Registry(store, CLOCK).create(WEB, ttl=HOUR, uses=3)
    other = Registry(store, CLOCK)  # another process would have one of its own
    async with asyncio.TaskGroup() as group:
        tries = [group.create_task(other.spend(token, WEB, f"key{n}")) for n in range(10)]
    refusals = [task.result()[1] for task in tries]
    assert refusals.count(None) == 3
    assert refusals.count(Refusal.USED) == 7


async def test_a_lost_answer_is_asked_for_again_with_the_same_key(store: Store) -> None:
    registry = Registry(store, CLOCK)
    token, record = await registry.create(WEB, ttl=HOUR)
    for _ in range(3):
        found, refusal = await registry.spend(token, WEB, "key")
        assert refusal is None
        assert found is not None
        assert found.id == record.id
    assert (await registry.spend(token, WEB, "other"))[1] is Refusal.USED


async def test_a_revoked_token_is_unknown(store: Store) -> None:
    registry = Registry(store, CLOCK)
    token, record = await registry.create(WEB, ttl=HOUR)
    assert await registry.revoke(record.id) == record
    assert await registry.spend(token, WEB, "key") == (None, Refusal.UNKNOWN)
    with pytest.raises(NotFound):
        await registry.revoke(record.id)


async def test_expired_tokens_are_told_for_a_while_and_then_forgotten(store: Store) -> None:
    clock = ManualClock()
    registry = Registry(store, clock)
    token, _ = await registry.create(WEB, ttl=HOUR)
    clock.advance(HOUR)
    assert (await registry.spend(token, WEB, "key"))[1] is Refusal.EXPIRED
    clock.advance(tokens.KEPT)
    _, newest = await registry.create(WEB, ttl=HOUR)
    assert (await registry.spend(token, WEB, "key"))[1] is Refusal.EXPIRED
    clock.advance(timedelta(seconds=1))
    _, newest = await registry.create(WEB, ttl=HOUR)
    assert (await registry.all())[0] == newest
    assert await registry.spend(token, WEB, "key") == (None, Refusal.UNKNOWN)


async def test_a_damaged_record_is_named(store: Store) -> None:
    key = keyspace.token(tokens.digest_of("mesh_join_x"))
    await store.commit(Transaction(puts=(Put(key, b'{"id": 1}'),)))
    with pytest.raises(Corrupted, match=key):
        await Registry(store, CLOCK).spend("mesh_join_x", WEB, "key")
