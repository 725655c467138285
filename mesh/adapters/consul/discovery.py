"""The `Discovery` port over Consul's agent API and blocking queries."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from datetime import timedelta
from random import SystemRandom
from types import TracebackType
from typing import Self

from mesh.adapters.consul.board import ALL_NAMES, Board, read
from mesh.adapters.consul.client import QUERY_CONNECTIONS, Client, ConsulSettings, Failed, path
from mesh.adapters.consul.shapes import check_id, definition, node, service_ids
from mesh.errors import Denied, MeshError
from mesh.model.catalog import Catalog, Endpoint, Health
from mesh.ports import Clock, Interest

# A query that is given up holds its connection in Consul until its wait ends.
_WAIT = timedelta(seconds=30)
# For queries that take turns because there are more than connections.
_SHORT_WAIT = timedelta(seconds=2)
# How often silent and doubted instances are looked at again, while there are any.
_TICK = timedelta(seconds=5)
_FIRST_BACKOFF_SECONDS = 0.1
_MAX_BACKOFF_SECONDS = 5.0


_REGISTER = path("agent/service/register") + "?replace-existing-checks=true"
_SERVICES = path("agent/services")


class ConsulDiscovery:
    """`Discovery` in Consul.

    Entering connects to nobody, so that a sidecar starts with Consul down: `watch` says so.
    Enter and leave it in one task: its watches' tasks belong to it. A watch that is left early
    ends with `aclose`, and all end when the discovery is left.
    """

    def __init__(self, settings: ConsulSettings, *, clock: Clock) -> None:
        self._client = Client(settings)
        self._clock = clock
        self._random = SystemRandom()
        self._tasks = asyncio.TaskGroup()
        self._running: set[asyncio.Task[None]] = set()
        self._registered: dict[str, tuple[int, str]] = {}
        self._followed = 0
        self._turns = asyncio.Semaphore(QUERY_CONNECTIONS)

    async def __aenter__(self) -> Self:
        self._client.open()
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for task in self._running:
            task.cancel()
        # Not told of an error of the caller's block: it would come out as an ExceptionGroup.
        await self._tasks.__aexit__(None, None, None)

    # --- registration ---------------------------------------------------------------------

    async def register(self, endpoint: Endpoint, *, ttl: timedelta) -> None:
        """As `Discovery.register`; a renewal that says the same resets the check's TTL.

        Raises:
            InputError: Consul refuses the meta data, or a key of it is the mesh's own.
        """
        tokens = self._client.tokens
        try:
            await self._register(endpoint, ttl)
        except Denied:
            self._client.read_token_again()
            if self._client.tokens == tokens:
                raise
            await self._register(endpoint, ttl)

    async def _register(self, endpoint: Endpoint, ttl: timedelta) -> None:
        said = definition(endpoint, ttl)
        # With its token: the agent keeps that one to tell the servers of the instance.
        mark = (self._client.tokens, json.dumps(said, sort_keys=True))
        # First the check: Consul keeps the status of one that it knows through a registration.
        is_known = await self._renew(endpoint)
        if is_known and self._registered.get(endpoint.id) == mark:
            return
        self._registered.pop(endpoint.id, None)
        await self._client.put("register", _REGISTER, said)
        self._registered[endpoint.id] = mark

    async def deregister(self, endpoint: Endpoint) -> None:
        """As `Discovery.deregister`."""
        self._registered.pop(endpoint.id, None)
        try:
            await self._client.put("deregister", path("agent/service/deregister", endpoint.id))
        except Failed:
            # Consul answers 500 for a service that it does not know.
            if endpoint.id in service_ids(await self._client.get("deregister", _SERVICES)):
                raise

    async def _renew(self, endpoint: Endpoint) -> bool:
        """Set the check's status and its TTL anew; False: the agent may not know the check."""
        status = "fail" if endpoint.health is Health.UNHEALTHY else "pass"
        try:
            where = path("agent/check", status, check_id(endpoint.id))
            return await self._client.put("renew", where)
        except Failed:
            # Unknown (500 or 404, by version) and unwell look alike: registering anew tells.
            return False

    # --- watching -------------------------------------------------------------------------

    async def watch(self, interest: Interest) -> AsyncIterator[Catalog]:
        """As `Discovery.watch`: one blocking query per service name, and one for all names."""
        board = Board(interest)
        self._followed += len(board.queries)
        tasks = [self._spawn(self._follow(board, query)) for query in board.queries]
        tasks.append(self._spawn(self._age(board)))
        shown: Catalog | None = None
        try:
            while True:
                version = board.changed.version
                if board.is_complete and (catalog := board.catalog()) != shown:
                    shown = catalog
                    yield catalog
                await board.changed.after(version)
        finally:
            self._followed -= len(board.queries)
            for task in tasks:
                task.cancel()

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = self._tasks.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _age(self, board: Board) -> None:
        while True:
            await board.ages.wait()
            await self._clock.sleep(_TICK)
            board.age(self._clock.monotonic())

    async def _follow(self, board: Board, query: str) -> None:
        """Ask for ever, by the rules for blocking queries: an index that went backwards starts
        anew, and none below 1 is sent, because it would not block
        (developer.hashicorp.com/consul/api-docs/features/blocking).
        """
        index, failures = 0, 0
        while True:
            try:
                at, answer = await self._query(query, index)
                found = read(query, answer)
                # A server that starts anew counts anew: what is missing then has not left.
                is_orderly = failures == 0 and at >= index
                if board.is_suddenly_empty(query, found):
                    is_orderly &= await self._is_believable(board, query)
            except MeshError as error:
                failures += 1
                index = 0
                board.lose(query, error.message)
                if isinstance(error, Denied):
                    self._client.read_token_again()
                await self._clock.sleep(self._backoff(failures))
                continue
            failures = 0
            index = 0 if at < index else max(at, 1)
            board.receive(query, found, is_orderly=is_orderly, now=self._clock.monotonic())

    async def _is_believable(self, board: Board, query: str) -> bool:
        """Whether a sudden empty answer says that the instances left.

        Raises:
            Denied: it says that our rights were taken away.
        """
        if not await self._client.may_read(board.rights(query)):
            return False
        witness = board.witness(query)
        if witness is None:
            return False
        # The index alone does not tell: a catalog that is built anew may have overtaken it.
        _, answer = await self._client.query(path("catalog/node", witness.name))
        return node(answer) == witness

    async def _query(self, query: str, index: int) -> tuple[int, object]:
        """The answer's index and body, once something is newer than `index`; 0: at once."""
        where = path("catalog/services") if query == ALL_NAMES else path("health/service", query)
        if not index:
            return await self._client.query(where)
        async with self._turns:  # the time counts from one's turn
            wait = _WAIT if self._followed <= QUERY_CONNECTIONS else _SHORT_WAIT
            return await self._client.query(where, index, wait)

    def _backoff(self, failures: int) -> timedelta:
        cap = min(_FIRST_BACKOFF_SECONDS * 2 ** min(failures, 10), _MAX_BACKOFF_SECONDS)
        return timedelta(seconds=self._random.uniform(0.05 * cap, cap))
