"""One exchange of HTTP/1.1 (RFC 9112) on a connection of its own, by hand.

An HTTP client's library is a seventh of an agent's memory, and what an agent asks of its Envoy, of
its host's Consul and of the certificate authority needs none: connections are not kept, redirects
not followed, nothing is encoded.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

_NONE: Mapping[str, str] = MappingProxyType({})
_PART = 1 << 16


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. Names of headers are in lower case; of two with one name the last counts."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def request(
    method: str, target: str, host: str, headers: Mapping[str, str] = _NONE, body: bytes = b""
) -> bytes:
    """A request for a connection that serves no other.

    Raises:
        ValueError: a header's value is not one line of ASCII. It is not told: it may be secret.
    """
    fields = {"host": host, "connection": "close", "content-length": f"{len(body)}", **headers}
    for name, value in fields.items():
        if not value.isascii() or not value.isprintable():
            raise ValueError(f'the value for "{name}" is not one line of ASCII')
    lines = (f"{method} {target} HTTP/1.1", *(f"{name}: {fields[name]}" for name in fields))
    return "\r\n".join((*lines, "", "")).encode() + body


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sent: bytes, most_bytes: int
) -> Answer:
    """Send a request and read its answer, with a body of at most so many bytes; then the
    connection is over, as it is when this is cancelled.

    Raises:
        ValueError: no whole answer came.
        OSError: the connection broke.
    """
    try:
        writer.write(sent)
        await writer.drain()
        return await read_answer(reader, most_bytes)
    finally:
        writer.transport.abort()


async def read_answer(reader: asyncio.StreamReader, most_bytes: int) -> Answer:
    """Status, headers and body (RFC 9112 sections 4, 6.3 and 7.1).

    Raises:
        ValueError: that is none, or it is cut off, or longer than it may be.
    """
    try:
        status_line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        if not status_line.startswith("HTTP/1."):
            raise ValueError("the answer is not HTTP/1.1")
        fields = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in fields}
        body = await _body(reader, headers, most_bytes)
    except (EOFError, asyncio.LimitOverrunError) as error:
        raise ValueError("the answer is not whole") from error
    return Answer(int(status_line[9:12]), headers, body)


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str], most_bytes: int) -> bytes:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = bytearray()
        while size := int((await reader.readline()).partition(b";")[0], 16):
            body += await reader.readexactly(_allowed(size, most_bytes - len(body)))
            await reader.readexactly(len(b"\r\n"))
        return bytes(body)
    if "content-length" in headers:
        return await reader.readexactly(_allowed(int(headers["content-length"]), most_bytes))
    body = bytearray()
    while part := await reader.read(_PART):
        body += part
        _allowed(len(body), most_bytes)
    return bytes(body)


def _allowed(size_bytes: int, most_bytes: int) -> int:
    if size_bytes > most_bytes:
        raise ValueError("the answer is too long")
    return size_bytes
