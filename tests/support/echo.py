"""Applications that say what they were asked, for tests to send requests through a proxy to.

An answer is JSON: `backend`, `method`, `path` (raw, with its query), `headers` (a list of pairs,
names lower case) and `tries` (how often this `x-echo-key` was seen, on any backend). What a request
asks for by headers:

x-echo-status: 503         the answer's status
x-echo-answer: NAME=VALUE  a header of the answer; repeatable
x-echo-fail: 2 reset       the first two tries of its `x-echo-key` fail: `reset` hangs up,
                           `hang` never answers, a number is a status
x-echo-fail-at: NAME       that backend answers 500
x-echo-delay: 0.4          seconds before the answer
x-echo-slow: NAME 0.1      the same at one backend; repeatable
"""

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from aiohttp import WSMsgType, web
from multidict import CIMultiDict


class _Echo:
    def __init__(self, backend: str, tries: Counter[str]) -> None:
        self._backend = backend
        self._tries = tries

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("upgrade", "").lower() == "websocket":
            return await self._websocket(request)
        if request.headers.get("expect") == "100-continue" and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await request.text()
        key = request.headers.get("x-echo-key", "")
        self._tries[key] += 1
        failures, _, how = request.headers.get("x-echo-fail", "0 500").partition(" ")
        status = int(request.headers.get("x-echo-status", "200"))
        if self._tries[key] <= int(failures):
            if how == "hang":
                await asyncio.Event().wait()
            if how == "reset":
                assert request.transport is not None
                request.transport.abort()
            status = int(how) if how.isdigit() else status
        if request.headers.get("x-echo-fail-at") == self._backend:
            status = 500
        await self._wait(request)
        answered = (each.split("=", 1) for each in request.headers.getall("x-echo-answer", ()))
        content = {
            "backend": self._backend,
            "method": request.method,
            "path": request.raw_path,
            "headers": [[name.lower(), value] for name, value in request.headers.items()],
            "body": body,
            "tries": self._tries[key],
        }
        headers = CIMultiDict((name, value) for name, value in answered)
        return web.json_response(content, status=status, headers=headers)

    async def _wait(self, request: web.BaseRequest) -> None:
        slow = dict(each.split(" ") for each in request.headers.getall("x-echo-slow", ()))
        seconds = float(slow.get(self._backend, request.headers.get("x-echo-delay", "0")))
        if seconds:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await asyncio.Event().wait()

    async def _websocket(self, request: web.BaseRequest) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await socket.send_str(f"{self._backend}: {message.data}")
        return socket


async def _serve(
    backends: Sequence[str], ports: dict[str, int], started: threading.Event, stop: asyncio.Event
) -> None:
    tries: Counter[str] = Counter()
    runners = []
    for backend in backends:
        server = web.Server(_Echo(backend, tries).answer, handler_cancellation=True)
        runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        runners.append(runner)
        ports[backend] = runner.addresses[0][1]
    started.set()
    await stop.wait()
    for runner in runners:
        await runner.cleanup()


@contextmanager
def running(backends: Sequence[str]) -> Iterator[dict[str, int]]:
    """Serve each backend on a free port of 127.0.0.1, in a thread; gives the ports by name."""
    ports: dict[str, int] = {}
    started = threading.Event()
    loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def main() -> None:
        stop = asyncio.Event()
        loops.append((asyncio.get_running_loop(), stop))
        await _serve(backends, ports, started, stop)

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    assert started.wait(10), "the echo servers did not start"
    try:
        yield ports
    finally:
        loop, stop = loops[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
