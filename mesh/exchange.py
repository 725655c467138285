"""One exchange of HTTP/1.1 (RFC 9112) on a connection of its own, framed by h11.

A whole HTTP client's library is a seventh of an agent's memory, and what an agent asks of its
Envoy, of its host's Consul and of the certificate authority needs none: connections are not kept,
redirects not followed, nothing is encoded.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import h11

_PART_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked. `target` is a path with its query, `host` as the URL has it."""

    method: str
    target: str
    host: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. Names of headers are in lower case; of two with one name the last counts."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: Request, most_bytes: int
) -> Answer:
    """Send a request and read its answer, with a body of at most so many bytes; then the
    connection is over, as it is when this is cancelled.

    Raises:
        ValueError: the request cannot be sent, or no whole answer came; from an EOFError where the
            other side ended it.
        OSError: the connection broke.
    """
    framing = h11.Connection(h11.CLIENT)
    try:
        writer.write(_sent(framing, asked))
        await writer.drain()
        return await _answer(framing, reader, most_bytes)
    except h11.RemoteProtocolError as error:
        raise ValueError(f"the answer is not HTTP/1.1: {error}") from error
    finally:
        writer.transport.abort()


def _sent(framing: h11.Connection, asked: Request) -> bytes:
    fields = {"host": asked.host, "connection": "close", "content-length": f"{len(asked.body)}"}
    fields |= asked.headers
    try:
        head = h11.Request(method=asked.method, target=asked.target, headers=list(fields.items()))
    except (h11.LocalProtocolError, UnicodeEncodeError):
        # What is wrong with it is not told: a value may be secret.
        raise ValueError("the address or a header is not one line of ASCII") from None
    events = (head, h11.Data(asked.body), h11.EndOfMessage())
    return b"".join(framing.send(event) or b"" for event in events)


async def _answer(framing: h11.Connection, reader: asyncio.StreamReader, most_bytes: int) -> Answer:
    head: h11.Response | None = None
    body = bytearray()
    while True:
        match framing.next_event():
            case h11.Response() as head:
                pass
            case h11.Data(data=data):
                body += data
                if len(body) > most_bytes:
                    raise ValueError("the answer is too long")
            case h11.EndOfMessage() if head is not None:
                headers = {name.decode(): value.decode("latin-1") for name, value in head.headers}
                return Answer(head.status_code, headers, bytes(body))
            case h11.NEED_DATA:
                part = await reader.read(_PART_BYTES)
                if not part and not _ends_with_connection(head):
                    raise ValueError("the answer is not whole") from EOFError()
                framing.receive_data(part)
            case _:
                continue


def _ends_with_connection(head: h11.Response | None) -> bool:
    """Whether an answer says nothing of its length (RFC 9112 section 6.3)."""
    names = {name for name, _ in head.headers} if head is not None else {b"content-length"}
    return names.isdisjoint((b"content-length", b"transfer-encoding"))
