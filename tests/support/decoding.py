"""An application that reads a path as generously as any: it decodes, drops parameters, collapses
slashes and resolves dots, in either order, and says which resources it would have served.

An answer is JSON: `resources`, `method`, `target` (as it came) and `headers` (pairs, names lower
case). Requests are read from the socket as they are, without a library that would refuse some.
"""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import unquote, urlsplit


def resources(target: str) -> list[str]:
    """Every resource that somebody's reading of `target` leads to."""
    path = target.split("#")[0].split("?")[0]
    if "://" in path:
        path = urlsplit(path).path
    decoded = unquote(path, encoding="latin-1")
    readings = {_resolved(_plain(decoded)), _resolved(unquote(_plain(path), encoding="latin-1"))}
    return sorted(readings)


def _plain(path: str) -> str:
    """Without parameters, nor NUL and what follows it."""
    path = path.replace("\\", "/").partition("\0")[0]
    return "/".join(segment.partition(";")[0] for segment in path.split("/"))


def _resolved(path: str) -> str:
    found: list[str] = []
    segments = path.replace("\\", "/").split("/")
    for segment in segments:
        if segment == "..":
            del found[-1:]
        elif segment not in ("", "."):
            found.append(segment)
    end = "/" if found and segments[-1] in ("", ".", "..") else ""
    return "/" + "/".join(found) + end


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.strip().split("\r\n")
            method, target, _ = first.split(" ", 2)
            headers = [[name.lower(), value.strip()] for name, _, value in map(_split, lines)]
            size = next((int(value) for name, value in headers if name == "content-length"), 0)
            await reader.readexactly(size)
            said = {"resources": resources(target), "method": method, "target": target}
            body = json.dumps(said | {"headers": headers}).encode()
            length = b"" if method == "HEAD" else body
            # What it says of the mesh in its answer is nobody's word but its own.
            writer.write(
                b"HTTP/1.1 200 OK\r\nx-mesh-reason: mine\r\ncontent-length: %d\r\n\r\n%s"
                % (len(body), length)
            )
            await writer.drain()
    writer.close()


def _split(line: str) -> tuple[str, str, str]:
    return line.partition(":")


@contextmanager
def running() -> Iterator[int]:
    """Serve it on a free port of 127.0.0.1, in a thread; gives the port."""
    started = threading.Event()
    found: list[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = []

    async def main() -> None:
        server = await asyncio.start_server(_serve, "127.0.0.1", 0)
        stop = asyncio.Event()
        found.append((asyncio.get_running_loop(), stop, server.sockets[0].getsockname()[1]))
        started.set()
        await stop.wait()
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    assert started.wait(10)
    loop, stop, port = found[0]
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
