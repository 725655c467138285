"""What every Store promises: one suite, run on SQLite and on a real etcd."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from mesh.errors import Conflict, InputError, LeaseLost
from mesh.ports import MAX_BYTES, MAX_OPERATIONS, Entry, LeaseId, Put, Transaction, Watched
from tests.support.servers import etcd
from tests.support.stores import AnyStore, Backend, numbered

SECOND = timedelta(seconds=1)
PATIENCE_SECONDS = 15.0
_prefixes = (f"test-{n}" for n in itertools.count())


@pytest.fixture(scope="module")
def etcd_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with etcd(tmp_path_factory.mktemp("etcd")) as server:
        yield server.endpoint


@pytest.fixture(params=["embedded", "etcd"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    if request.param == "embedded":
        return Backend(f"embedded:{tmp_path / 'state' / 'mesh.db'}")
    endpoint = request.getfixturevalue("etcd_endpoint")
    return Backend(f"etcd:{endpoint}/{next(_prefixes)}")


@pytest.fixture
async def store(backend: Backend) -> AsyncIterator[AnyStore]:
    async with backend.open() as store:
        yield store


def put(**values: str) -> Transaction:
    return Transaction(puts=tuple(Put(key, value.encode()) for key, value in values.items()))


def values(entries: Watched | dict[str, Entry]) -> dict[str, str]:
    found = entries.entries if isinstance(entries, Watched) else entries
    return {key: entry.value.decode() for key, entry in found.items()}


async def until(states: AsyncIterator[Watched], wanted: dict[str, str]) -> int:
    """Read states up to the wanted one; how many were read."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        for count in itertools.count(1):
            state = await anext(states)
            assert state.lost is None
            if values(state) == wanted:
                return count
    raise AssertionError


# --- Reading and writing --------------------------------------------------------------------


async def test_what_was_never_written_is_not_there(store: AnyStore) -> None:
    assert await store.fetch(["a", "b"]) == {}
    assert await store.fetch([]) == {}
    assert await store.scan("") == {}


async def test_any_value_and_any_text_as_key_come_back_as_they_were(store: AnyStore) -> None:
    everything = bytes(range(256))
    keys = ["plain", "with space/and:colon", "ünïcödé/日本/🕸", "a" * 200]
    await store.commit(Transaction(puts=tuple(Put(key, everything) for key in keys)))
    await store.commit(Transaction(puts=(Put("empty", b""),)))
    found = await store.fetch([*keys, "empty", "absent"])
    assert {key: entry.value for key, entry in found.items()} == {
        **dict.fromkeys(keys, everything),
        "empty": b"",
    }
    assert all(key == entry.key for key, entry in found.items())


async def test_a_commit_is_seen_by_other_users_of_the_store_at_once(
    backend: Backend, store: AnyStore
) -> None:
    async with backend.open() as other:
        await store.commit(put(a="1"))
        assert values(await other.fetch(["a"])) == {"a": "1"}


async def test_a_version_is_never_zero_and_never_used_again(store: AnyStore) -> None:
    seen = [0]
    for _ in range(3):
        await store.commit(put(a="1"))
        seen.append((await store.fetch(["a"]))["a"].version)
        await store.commit(put(a="1"))
        seen.append((await store.fetch(["a"]))["a"].version)
        await store.commit(Transaction(deletes=("a",)))
        assert await store.fetch(["a"]) == {}
    assert seen == sorted(set(seen))


async def test_writing_one_key_leaves_the_versions_of_others(store: AnyStore) -> None:
    await store.commit(put(a="1", b="1"))
    before = await store.fetch(["a"])
    await store.commit(put(b="2"))
    assert await store.fetch(["a"]) == before


async def test_deleting_what_is_not_there_is_fine(store: AnyStore) -> None:
    await store.commit(Transaction(puts=(Put("a", b"1"),), deletes=("b",)))
    assert values(await store.scan("")) == {"a": "1"}


async def test_more_keys_than_one_transaction_holds_are_fetched_at_once(store: AnyStore) -> None:
    keys = [f"k{n}" for n in range(3 * MAX_OPERATIONS)]
    for start in range(0, len(keys), MAX_OPERATIONS):
        part = keys[start : start + MAX_OPERATIONS]
        await store.commit(Transaction(puts=tuple(Put(key, key.encode()) for key in part)))
    assert values(await store.fetch(keys)) == {key: key for key in keys}


# --- Scanning -------------------------------------------------------------------------------


async def test_a_scan_gives_what_starts_with_the_prefix_and_nothing_else(store: AnyStore) -> None:
    keys = ["a", "a/", "a/1", "a/2/x", "a0", "a\ud7ff1", "a\ue000", "b/1", "é/1", "ê"]
    await store.commit(Transaction(puts=tuple(Put(key, b"") for key in keys)))
    for prefix in ("a", "a/", "a/2", "a\ud7ff", "b", "c", "é", ""):
        assert list(await store.scan(prefix)) == sorted(k for k in keys if k.startswith(prefix))


async def test_a_scan_of_thousands_is_in_order_and_complete(store: AnyStore) -> None:
    keys = [f"many/{n:04d}" for n in range(2_300)]
    for start in reversed(range(0, len(keys), MAX_OPERATIONS)):
        part = keys[start : start + MAX_OPERATIONS]
        await store.commit(Transaction(puts=tuple(Put(key, key.encode()) for key in part)))
    found = await store.scan("many/")
    assert list(found) == keys
    assert values(found) == {key: key for key in keys}


async def test_a_scan_of_keys_has_versions_and_no_values(store: AnyStore) -> None:
    await store.commit(put(a="1"))
    whole = await store.scan("")
    assert await store.scan("", keys_only=True) == {"a": Entry("a", b"", whole["a"].version)}


# --- Transactions ---------------------------------------------------------------------------


async def test_an_expectation_holds_or_nothing_is_written(store: AnyStore) -> None:
    await store.commit(put(a="1"))
    version = (await store.fetch(["a"]))["a"].version
    for expect in ({"a": 0}, {"a": version + 1}, {"absent": version}, {"a": version, "b": 7}):
        change = Transaction(expect=expect, puts=(Put("b", b"2"),), deletes=("a",))
        with pytest.raises(Conflict):
            await store.commit(change)
        assert values(await store.scan("")) == {"a": "1"}
    await store.commit(
        Transaction(expect={"a": version, "b": 0}, puts=(Put("b", b"2"),), deletes=("a",))
    )
    assert values(await store.scan("")) == {"b": "2"}


async def test_a_conflict_names_the_key_and_both_versions(store: AnyStore) -> None:
    await store.commit(put(a="1"))
    version = (await store.fetch(["a"]))["a"].version
    with pytest.raises(Conflict, match=f'"a" is at version {version}; version 999999'):
        await store.commit(Transaction(expect={"a": 999999}))
    with pytest.raises(Conflict, match='"a" exists already'):
        await store.commit(Transaction(expect={"a": 0}))
    with pytest.raises(Conflict, match='"b" does not exist'):
        await store.commit(Transaction(expect={"b": 5}))


async def test_expectations_alone_can_be_asked_for(store: AnyStore) -> None:
    await store.commit(Transaction(expect={"a": 0}))
    with pytest.raises(Conflict):
        await store.commit(Transaction(expect={"a": 1}))


async def test_of_many_writers_each_step_has_one_winner(backend: Backend) -> None:
    writers, steps = 8, 10

    async def count_up() -> None:
        async with backend.open() as store:
            done = 0
            while done < steps:
                entry = (await store.fetch(["n"])).get("n")
                number = int(entry.value) if entry else 0
                with suppress(Conflict):
                    await store.commit(
                        Transaction(
                            expect={"n": entry.version if entry else 0},
                            puts=(Put("n", str(number + 1).encode()),),
                        )
                    )
                    done += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(writers):
            group.create_task(count_up())
    async with backend.open() as store:
        assert values(await store.fetch(["n"])) == {"n": str(writers * steps)}


async def test_the_largest_transaction_fits(store: AnyStore) -> None:
    keys = [f"k{n:03d}" for n in range(MAX_OPERATIONS)]
    value = bytes(MAX_BYTES // MAX_OPERATIONS - 8)
    await store.commit(
        Transaction(expect=dict.fromkeys(keys, 0), puts=tuple(Put(key, value) for key in keys))
    )
    assert list(await store.scan("k", keys_only=True)) == keys
    await store.commit(Transaction(deletes=tuple(keys)))
    assert await store.scan("k") == {}


@pytest.mark.parametrize(
    "transaction",
    [
        Transaction(puts=tuple(Put(f"k{n}", b"") for n in range(MAX_OPERATIONS + 1))),
        Transaction(deletes=tuple(f"k{n}" for n in range(MAX_OPERATIONS + 1))),
        Transaction(expect={f"k{n}": 0 for n in range(MAX_OPERATIONS + 1)}),
        Transaction(
            puts=tuple(Put(f"k{n}", b"") for n in range(MAX_OPERATIONS)), deletes=("other",)
        ),
        Transaction(puts=(Put("a", bytes(MAX_BYTES)),)),
        Transaction(puts=(Put("a", b"1"), Put("a", b"2"))),
        Transaction(puts=(Put("a", b"1"),), deletes=("a",)),
        Transaction(puts=(Put("", b"1"),)),
    ],
    ids=["puts", "deletes", "expectations", "together", "bytes", "twice", "both", "no-key"],
)
async def test_what_is_over_a_limit_is_refused_whole(
    store: AnyStore, transaction: Transaction
) -> None:
    with pytest.raises(InputError):
        await store.commit(transaction)
    assert await store.scan("") == {}


# --- Watching -------------------------------------------------------------------------------


async def test_a_watch_begins_with_what_is_there(store: AnyStore) -> None:
    await store.commit(put(a1="1", b1="2"))
    async with aclosing(store.watch("a")) as states:
        assert values(await anext(states)) == {"a1": "1"}
    async with aclosing(store.watch("nothing")) as states:
        assert await anext(states) == Watched({})


async def test_a_watch_sees_each_kind_of_change(backend: Backend, store: AnyStore) -> None:
    async with backend.open() as other, aclosing(store.watch("a")) as states:
        await until(states, {})
        await other.commit(put(a1="1"))
        await until(states, {"a1": "1"})
        await other.commit(put(a1="2", a2="x"))
        await until(states, {"a1": "2", "a2": "x"})
        await other.commit(Transaction(puts=(Put("a3", b"y"),), deletes=("a1", "a2")))
        await until(states, {"a3": "y"})
        await other.commit(Transaction(deletes=("a3",)))
        await until(states, {})


async def test_a_transaction_is_seen_whole_or_not_at_all(backend: Backend, store: AnyStore) -> None:
    keys = numbered(20)
    async with backend.open() as other, aclosing(store.watch("flood/")) as states:
        await until(states, {})
        for value in range(30):
            puts = tuple(Put(key, str(value).encode()) for key in keys)
            await other.commit(Transaction(puts=puts))
            state = values(await anext(states))
            assert list(sorted(state)) == keys
            assert len(set(state.values())) == 1


async def test_changes_elsewhere_wake_nobody(store: AnyStore) -> None:
    async with aclosing(store.watch("head")) as states:
        await until(states, {})
        for n in range(20):
            await store.commit(put(**{f"other{n}": "1"}))
        await store.commit(put(head="1"))
        assert await until(states, {"head": "1"}) == 1


async def test_a_slow_watcher_gets_the_newest_state_and_not_each(store: AnyStore) -> None:
    commits = 100
    async with aclosing(store.watch("n")) as states, aclosing(store.watch("n")) as pace:
        await until(states, {})
        for n in range(commits):
            await store.commit(put(n=str(n)))
        await until(pace, {"n": str(commits - 1)})
        assert await until(states, {"n": str(commits - 1)}) < commits / 2


async def test_many_watches_of_one_store_all_see_the_end(store: AnyStore) -> None:
    async def follow() -> None:
        async with aclosing(store.watch("n")) as states:
            await until(states, {"n": "19"})

    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(follow())
        for n in range(20):
            await store.commit(put(n=str(n)))


async def test_versions_in_a_watch_are_those_to_expect(store: AnyStore) -> None:
    async with aclosing(store.watch("a")) as states:
        await until(states, {})
        await store.commit(put(a="1"))
        state = await anext(states)
        await store.commit(Transaction(expect={"a": state.entries["a"].version}))
        assert state.entries == await store.fetch(["a"])


async def test_leaving_the_store_ends_its_watches(backend: Backend) -> None:
    entered, seen = asyncio.Event(), []

    async def follow(store: AnyStore) -> None:
        async for state in store.watch("a"):
            seen.append(state)
            entered.set()

    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        asyncio.TaskGroup() as group,
        backend.open() as store,
    ):
        group.create_task(follow(store))
        await entered.wait()
    assert seen == [Watched({})]


async def test_a_watch_that_is_cancelled_leaves_the_store_usable(store: AnyStore) -> None:
    async def follow() -> None:
        async with asyncio.timeout(0.05), aclosing(store.watch("a")) as states:
            async for _ in states:
                pass

    with pytest.raises(TimeoutError):
        await follow()
    await store.commit(put(a="1"))
    async with aclosing(store.watch("a")) as states:
        await until(states, {"a": "1"})


# --- Leases ---------------------------------------------------------------------------------


async def test_keys_go_when_their_lease_runs_out_and_watchers_see_it(
    backend: Backend, store: AnyStore
) -> None:
    lease = await store.lease(SECOND)
    leased = (Put("a/alive", b"1", lease), Put("a/second", b"2", lease))
    await store.commit(Transaction(puts=(*leased, Put("a/record", b"3"))))
    async with backend.open() as other, aclosing(other.watch("a/")) as states:
        assert await until(states, {"a/alive": "1", "a/second": "2", "a/record": "3"}) == 1
        await until(states, {"a/record": "3"})
    assert values(await store.scan("")) == {"a/record": "3"}
    assert values(await store.fetch(["a/alive", "a/record"])) == {"a/record": "3"}
    await store.commit(Transaction(expect={"a/alive": 0}, puts=(Put("a/alive", b"4"),)))
    with pytest.raises(LeaseLost):
        await store.lease(SECOND, renew=lease)


async def test_a_lease_lives_as_long_as_it_is_renewed(store: AnyStore) -> None:
    short, long = await store.lease(SECOND), await store.lease(2 * SECOND)
    await store.commit(Transaction(puts=(Put("short", b"", short), Put("long", b"", long))))
    gone = asyncio.Event()

    async def keep() -> None:
        while not gone.is_set():
            assert await store.lease(SECOND, renew=short) == short
            with suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    await gone.wait()

    async with asyncio.TaskGroup() as group, aclosing(store.watch("")) as states:
        group.create_task(keep())
        await until(states, {"short": ""})
        gone.set()
        await until(states, {})


async def test_what_names_a_lost_lease_is_refused_whole(store: AnyStore) -> None:
    unknown = LeaseId(4711)
    with pytest.raises(LeaseLost):
        await store.lease(SECOND, renew=unknown)
    with pytest.raises(LeaseLost):
        await store.commit(Transaction(puts=(Put("a", b"1"), Put("b", b"1", unknown))))
    assert await store.scan("") == {}


async def test_a_key_written_again_without_the_lease_outlives_it(store: AnyStore) -> None:
    lease = await store.lease(SECOND)
    await store.commit(Transaction(puts=(Put("kept", b"1", lease), Put("gone", b"1", lease))))
    await store.commit(put(kept="2"))
    async with aclosing(store.watch("")) as states:
        await until(states, {"kept": "2"})


async def test_a_lease_moves_to_another_key_and_lets_go_of_a_deleted_one(store: AnyStore) -> None:
    lease = await store.lease(30 * SECOND)
    await store.commit(Transaction(puts=(Put("a", b"1", lease),)))
    await store.commit(Transaction(puts=(Put("b", b"1", lease),), deletes=("a",)))
    assert values(await store.scan("")) == {"b": "1"}


# --- Other processes ------------------------------------------------------------------------


async def test_a_watcher_in_another_process_is_woken(backend: Backend, store: AnyStore) -> None:
    loop = asyncio.get_running_loop()
    with backend.process("watch", "a") as child:
        assert child.stdout is not None
        readline = child.stdout.readline
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await loop.run_in_executor(None, readline) == "\n"
            for n in range(5):
                start = loop.time()
                await store.commit(put(a=str(n)))
                assert await loop.run_in_executor(None, readline) == f"a={n}\n"
                assert loop.time() - start < 0.9


async def test_another_process_wakes_a_watcher_here(backend: Backend, store: AnyStore) -> None:
    async with aclosing(store.watch("a")) as states:
        await until(states, {})
        with backend.process("commit", "a", "theirs"):
            await until(states, {"a": "theirs"})


async def test_a_committer_killed_at_any_moment_leaves_no_half(
    backend: Backend, store: AnyStore
) -> None:
    loop = asyncio.get_running_loop()
    keys = numbered(100)
    for commits in (1, 3, 8):
        with backend.process("flood", str(len(keys))) as child:
            assert child.stdout is not None
            for _ in range(commits):
                told = int(await loop.run_in_executor(None, child.stdout.readline))
            child.kill()
            child.wait()
            rest = child.stdout.read().split()
        told = int(rest[-1]) if rest else told
        found = values(await store.scan("flood/"))
        assert list(found) == keys
        assert len(set(found.values())) == 1
        assert int(found[keys[0]]) in (told, told + 1)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await store.commit(put(after="kill"))
