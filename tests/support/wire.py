"""A TCP proxy that breaks on purpose, at the moment when certain bytes come by."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, auto

from mesh.adapters.clock import SystemClock


class After(Enum):
    """What becomes of the connection, and of those after it, once the moment has come."""

    CUT = auto()
    """It ends; later ones pass."""
    FREEZE = auto()
    """It stays open and silent; later ones pass."""
    GONE = auto()
    """It ends, and nobody can connect any more."""


@dataclass
class Wire:
    """Passes bytes to `target` (a loopback port) until a client sends `moment`. That piece is
    delivered or not, as `delivers` says; the answer to it never arrives. `then` is called before.
    """

    target: int
    moment: bytes
    delivers: bool
    after: After
    then: Callable[[], None] = lambda: None
    port: int = 0
    is_broken: bool = False
    _over: asyncio.Event = field(default_factory=asyncio.Event)
    _connections: int = 0
    _server: asyncio.Server | None = None

    async def serve(self, on_started: Callable[[], None]) -> None:
        """Until `stop`."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        on_started()
        await self._over.wait()
        self._server.close()
        while self._connections:
            await SystemClock().sleep(timedelta(milliseconds=5))

    def stop(self) -> None:
        """The clients are gone; so is this."""
        self._over.set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            await self._pass(reader, writer)
        finally:
            self._connections -= 1

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        came = asyncio.Event()
        with suppress(ConnectionError):
            async with asyncio.TaskGroup() as tasks:
                asking = tasks.create_task(self._ask(reader, back, came))
                await self._answer(there, writer, came)
                asking.cancel()
        for each in (writer, back):
            each.close()

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, came: asyncio.Event
    ) -> None:
        tail = b""
        while data := await reader.read(1 << 16):
            if not self.is_broken and self.moment in tail + data:
                self._break()
                came.set()
                if not self.delivers:
                    break
            tail = data[-len(self.moment) :]
            writer.write(data)
        writer.close()  # and so what is read from there ends too

    def _break(self) -> None:
        self.then()
        self.is_broken = True
        if self.after is After.GONE and self._server is not None:
            self._server.close()

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, came: asyncio.Event
    ) -> None:
        while (data := await reader.read(1 << 16)) and not came.is_set():
            writer.write(data)
        if came.is_set() and self.after is After.FREEZE:
            await self._over.wait()


@contextmanager
def running(wire: Wire) -> Iterator[Wire]:
    """Serve the wire in a thread, so that processes can use it while a test waits for them."""
    started = threading.Event()
    loop = asyncio.new_event_loop()

    def serve() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(wire.serve(started.set))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield wire
    finally:
        loop.call_soon_threadsafe(wire.stop)
        thread.join(10)
