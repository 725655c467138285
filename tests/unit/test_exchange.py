"""One exchange of HTTP/1.1: what is sent, and which answers are whole."""

import asyncio
from contextlib import suppress

import pytest

from mesh.exchange import Answer, Request, exchange

MOST_BYTES = 16
ASKED = Request("GET", "/", "host")


class Server:
    """Answers one request with given bytes; `got` is what came, and what came after the answer."""

    def __init__(self, answer: bytes, *, ends: bool) -> None:
        self.got = b""
        self._answer = answer
        self._ends = ends
        self._is_over = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, EOFError):
            self.got = await reader.readuntil(b"\r\n\r\n")
            writer.write(self._answer)
            if self._ends:
                writer.write_eof()
            while part := await reader.read(64):
                self.got += part
        with suppress(OSError):
            writer.close()
            await writer.wait_closed()
        self._is_over.set()

    async def asked(self, request: Request) -> Answer:
        async with await asyncio.start_server(self.serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            connection = await asyncio.open_connection("127.0.0.1", port)
            try:
                return await exchange(*connection, request, MOST_BYTES)
            finally:
                await self._is_over.wait()


async def read(answer: bytes) -> Answer:
    return await Server(answer, ends=True).asked(ASKED)


async def test_a_request_says_that_its_connection_serves_no_other() -> None:
    server = Server(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", ends=False)
    request = Request("PUT", "/v1/x?a=b", "host:8500", {"x-token": "secret"}, b"{}")
    assert (await server.asked(request)).body == b"hi"
    assert server.got == (
        b"PUT /v1/x?a=b HTTP/1.1\r\nhost: host:8500\r\nconnection: close\r\n"
        b"content-length: 2\r\nx-token: secret\r\n\r\n{}"
    )
    assert "secret" not in repr(request)


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\0", "s\u00e9cret"])
async def test_a_header_of_several_lines_is_refused_and_not_told(value: str) -> None:
    with pytest.raises(ValueError, match="not one line of ASCII") as refused:
        await Server(b"", ends=True).asked(Request("GET", "/", "host", {"x-token": value}))
    assert value not in str(refused.value)
    assert refused.value.__cause__ is None


async def test_an_answer_ends_by_its_length_by_chunks_or_with_the_connection() -> None:
    head = b"HTTP/1.1 200 OK\r\nX-Consul-Index: 7\r\n"
    headers = {"x-consul-index": "7"}
    for fields, body in (
        (b"Content-Length: 2\r\n\r\n", b"[]and more"),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n[\r\n1;x=y\r\n]\r\n0\r\n\r\n"),
        (b"\r\n", b"[]"),
    ):
        found = await read(head + fields + body)
        assert (found.status, found.body) == (200, b"[]")
        assert headers.items() <= found.headers.items()
    assert (await read(b"HTTP/1.0 503 No\r\ncontent-length: 0\r\n\r\n")).status == 503
    assert (await read(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 None\r\n\r\n")).status == 204


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "not whole"),
        (b"HTTP/1.1 200 OK\r\n", "not whole"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab", "not whole"),
        (CHUNKED + b"5\r\nab", "not whole"),
        (CHUNKED + b"2\r\nab\r\n", "not whole"),
        (CHUNKED + b"z\r\nab\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\n" + bytes(17), "too long"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + bytes(17), "too long"),
        (CHUNKED + b"9\r\n012345678\r\n8\r\n01234567\r\n0\r\n\r\n", "too long"),
        (b"HTTP/1.1 many\r\n\r\n", "not HTTP"),
        (b"SSH-2.0-x\r\n\r\n", "not HTTP"),
    ],
)
async def test_what_is_no_whole_answer_is_refused(answer: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        await read(answer)
