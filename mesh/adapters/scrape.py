"""The endpoint that Prometheus scrapes: GET /metrics and GET /healthz, and nothing else.

HTTP/1.1 by hand, one request to a connection: a library would be a seventh of an agent's memory.
"""

import asyncio
import contextlib
import resource
from collections.abc import Awaitable, Callable
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path

import structlog

from mesh.errors import MeshError, PortInUse
from mesh.metrics.exposition import CONTENT_TYPE, text
from mesh.metrics.process import Usage, usage
from mesh.model.policy import Address

_HEAD_BYTES = 8 * 1024
_PATIENCE = timedelta(seconds=5)
# Prometheus needs one connection; a few more are people looking. Others wait for the deadline.
_CONNECTIONS = 8
_PLAIN = "text/plain; charset=utf-8"

_log = structlog.get_logger(__name__)


class ScrapeEndpoint:
    """Serves what `collect` gives (exposition text) and this process's usage at `address`; port 0
    takes a free one.

    `trouble` says why this process does not do its work, for /healthz: None is 200, else 503.
    `flag` is what a user chose the address with.
    """

    def __init__(
        self,
        address: Address,
        collect: Callable[[], Awaitable[str]],
        trouble: Callable[[], str | None] = lambda: None,
        *,
        flag: str = "--metrics",
    ) -> None:
        self._address = address
        self._collect = collect
        self._trouble = trouble
        self._flag = flag
        self._one_by_one = asyncio.Lock()
        self._places = asyncio.Semaphore(_CONNECTIONS)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> Address:
        """Where it listens, once `open` has returned."""
        if self._server is None:
            return self._address
        host, port = self._server.sockets[0].getsockname()[:2]
        return Address(str(host), int(port))

    async def open(self) -> None:
        """Listen; requests are answered from now on.

        Raises:
            PortInUse: somebody else listens there, or it is no address of this host.
        """
        try:
            self._server = await asyncio.start_server(
                self._serve, self._address.address, self._address.port, limit=_HEAD_BYTES
            )
        except OSError as error:
            raise PortInUse(
                f"{self._address.address}:{self._address.port} is in use or not an address of this "
                f"host ({self._flag})",
                hint=f"give another address with {self._flag}, or port 0 for a free one",
            ) from error

    async def close(self) -> None:
        """Stop listening; open requests are cut off."""
        if self._server is not None:
            self._server.close()
        for task in self._open:
            task.cancel()
        if self._open:
            await asyncio.wait(self._open)

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            PortInUse: as `open`, which is called where it has not been yet.
        """
        if self._server is None:
            await self.open()
        try:
            await asyncio.Event().wait()
        finally:
            await self.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._open.add(task)
            task.add_done_callback(self._open.discard)
        try:
            async with asyncio.timeout(_PATIENCE.total_seconds()), self._places:
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(await self._answer(head))
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the peer left, dawdled or wrote a book: nobody to answer to
        except Exception:  # noqa: BLE001 - one bad scrape must not end the agent
            _log.exception("a scrape failed")
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, head: bytes) -> bytes:
        method, _, rest = head.decode("latin-1").partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        if path not in ("/metrics", "/healthz"):
            return _response(HTTPStatus.NOT_FOUND, "there are /metrics and /healthz\n")
        if method != "GET":
            return _response(HTTPStatus.METHOD_NOT_ALLOWED, "GET only\n", "allow: GET\r\n")
        if path == "/healthz":
            trouble = self._trouble()
            if trouble is not None:
                return _response(HTTPStatus.SERVICE_UNAVAILABLE, trouble + "\n")
            return _response(HTTPStatus.OK, "ok\n")
        try:
            async with self._one_by_one:
                body = await self._collect() + text(usage(_usage()))
            return _response(HTTPStatus.OK, body, media_type=CONTENT_TYPE)
        except MeshError as error:
            return _response(HTTPStatus.SERVICE_UNAVAILABLE, error.message + "\n")


def _usage() -> Usage:
    times = resource.getrusage(resource.RUSAGE_SELF)
    spent = times.ru_utime + times.ru_stime
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        files = sum(1 for _ in Path("/proc/self/fd").iterdir())
    except OSError:  # macOS
        return Usage(cpu_seconds=spent)
    return Usage(cpu_seconds=spent, resident_bytes=pages * resource.getpagesize(), open_files=files)


def _response(status: HTTPStatus, body: str, headers: str = "", media_type: str = _PLAIN) -> bytes:
    content = body.encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        f"content-type: {media_type}\r\ncontent-length: {len(content)}\r\n"
        f"{headers}connection: close\r\n\r\n"
    )
    return head.encode() + content
