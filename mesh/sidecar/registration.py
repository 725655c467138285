"""Announcing the instance: while its Envoy serves and its application accepts connections.

An application that refuses a connection is out of use at once. No answer in time may be the host's
doing, that was starved for a moment, and an instance may be the only one: it counts when it lasts.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import structlog

from mesh.errors import MeshError
from mesh.model.catalog import Endpoint, Health
from mesh.model.policy import Address
from mesh.ports import Clock, Discovery
from mesh.sidecar.retry import Outage
from mesh.sockets import unconnected

TTL = timedelta(seconds=10)
RENEWAL = timedelta(seconds=3)
PROBE = timedelta(seconds=1)
# So many looks in a row without an answer are one.
PATIENCE = 3

_log = structlog.get_logger(__name__)


class Registration:
    """Registers `endpoint` once `is_serving` and the application at `app` both say yes; from then
    on an unhealthy one stays listed and out of use. `tried` is set after the first attempt;
    `changed` is called when `is_app_accepting` changes.
    """

    def __init__(
        self,
        discovery: Discovery,
        clock: Clock,
        endpoint: Endpoint,
        app: Address,
        is_serving: Callable[[], Awaitable[bool]],
        *,
        changed: Callable[[], None],
    ) -> None:
        self._discovery = discovery
        self._clock = clock
        self._endpoint = endpoint
        self._app = app
        self._is_serving = is_serving
        self._changed = changed
        self._said: Health | None = None
        self._renewed = 0.0
        self._unanswered = 0
        self._outage = Outage("registration")
        self._lock = asyncio.Lock()
        self._has_left = False
        self.tried = asyncio.Event()
        self.is_app_accepting = True

    async def run(self) -> None:
        """Probe each second and register until cancelled."""
        while True:
            health = await self._health()
            if health is Health.HEALTHY or self._said is not None:
                await self._say(health)
            await self._clock.sleep(PROBE)

    async def app_accepts(self) -> bool:
        """Whether somebody accepts TCP connections where the application shall be."""
        return await _accepts(self._app) is True

    @property
    def is_registered(self) -> bool:
        """Whether the instance is listed, by what discovery answered last."""
        return self._said is not None

    @property
    def trouble(self) -> str | None:
        """Why discovery does not take what is to be said of it, while it does not."""
        return self._outage.reason

    async def withdraw(self) -> bool:
        """Take the instance out at once, for good; whether it had been registered.

        Raises:
            OutsideError: discovery is out of reach; the registration will run out.
        """
        self._has_left = True
        async with self._lock:  # after a registration that is under way
            if self._said is None:
                return False
            await self._discovery.deregister(self._endpoint)
            self._said = None
        _log.info("deregistered", service=str(self._endpoint.service), id=self._endpoint.id)
        return True

    async def withdraw_earlier(self) -> None:
        """Take out what an earlier agent of this instance registered, until it is registered anew.

        Raises:
            OutsideError: discovery is out of reach.
        """
        async with self._lock:
            await self._discovery.deregister(self._endpoint)
            self._said = None

    async def _health(self) -> Health:
        accepts = await _accepts(self._app)
        if accepts and await self._is_serving():
            self._unanswered = 0
            self._app_accepts(is_so=True)
            return Health.HEALTHY
        self._unanswered += 1
        if accepts is False or self._unanswered >= PATIENCE:
            self._app_accepts(is_so=bool(accepts))
            return Health.UNHEALTHY
        return self._said or Health.UNHEALTHY

    def _app_accepts(self, *, is_so: bool) -> None:
        if self.is_app_accepting is not is_so:
            self.is_app_accepting = is_so
            self._changed()

    async def _say(self, health: Health) -> None:
        now = self._clock.monotonic()
        if health is self._said and now - self._renewed < RENEWAL.total_seconds():
            return
        async with self._lock:
            if self._has_left:
                return
            try:
                await self._discovery.register(replace(self._endpoint, health=health), ttl=TTL)
            except MeshError as error:
                self._outage.failed(error.message, error.hint)
                return
            finally:
                self.tried.set()
            if health is not self._said:
                _log.info("registered", service=str(self._endpoint.service), health=health.value)
            self._said, self._renewed = health, now
        self._outage.recovered()


async def _accepts(address: Address) -> bool | None:
    """Whether the application takes a connection; None: neither that nor a refusal came in time."""
    loop = asyncio.get_running_loop()
    # Not `open_connection`: each second, for a connection that nobody reads or writes.
    with unconnected(address) as connection:
        connection.setblocking(False)
        try:
            async with asyncio.timeout(PROBE.total_seconds()):
                await loop.sock_connect(connection, address)
        except TimeoutError:
            return None
        except OSError:
            return False
    return True
