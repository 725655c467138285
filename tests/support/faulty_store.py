"""A store whose commits go wrong on purpose, over a real one."""

from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Self

from mesh.ports import Entry, LeaseId, Store, Transaction, Watched


@dataclass(frozen=True, slots=True)
class Fault:
    """What a commit raises, and whether it takes place all the same."""

    error: Exception
    applies: bool = False


class FaultyStore:
    """The `Store` port over `store`; `plan` says for each commit (counted from 1) what
    goes wrong.
    """

    def __init__(
        self, store: Store, plan: Callable[[int, Transaction], Fault | None] = lambda *_: None
    ) -> None:
        self._store = store
        self._plan = plan
        self.commits = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None

    async def fetch(self, keys: Collection[str]) -> dict[str, Entry]:
        return await self._store.fetch(keys)

    async def scan(self, prefix: str, *, keys_only: bool = False) -> dict[str, Entry]:
        return await self._store.scan(prefix, keys_only=keys_only)

    async def commit(self, transaction: Transaction) -> None:
        self.commits += 1
        fault = self._plan(self.commits, transaction)
        if fault is None or fault.applies:
            await self._store.commit(transaction)
        if fault is not None:
            raise fault.error

    def watch(self, prefix: str) -> AsyncIterator[Watched]:
        return self._store.watch(prefix)

    async def lease(self, ttl: timedelta, renew: LeaseId | None = None) -> LeaseId:
        return await self._store.lease(ttl, renew)
