"""HTTP/1.1 by hand: what is sent, and which answers are whole."""

import asyncio

import pytest

from mesh.exchange import Answer, exchange, read_answer, request

MOST_BYTES = 16


async def read(answer: bytes) -> Answer:
    reader = asyncio.StreamReader()
    reader.feed_data(answer)
    reader.feed_eof()
    return await read_answer(reader, MOST_BYTES)


def test_a_request_says_that_its_connection_serves_no_other() -> None:
    sent = request("PUT", "/v1/x?a=b", "host:8500", {"x-token": "secret"}, b"{}")
    assert sent == (
        b"PUT /v1/x?a=b HTTP/1.1\r\nhost: host:8500\r\nconnection: close\r\n"
        b"content-length: 2\r\nx-token: secret\r\n\r\n{}"
    )


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\0", "sécret"])
def test_a_header_of_several_lines_is_refused_and_not_told(value: str) -> None:
    with pytest.raises(ValueError, match='the value for "x-token" is not one line') as refused:
        request("GET", "/", "host", {"x-token": value})
    assert value not in str(refused.value)


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


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "not whole"),
        (b"HTTP/1.1 200 OK\r\n", "not whole"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab", "not whole"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab", "not whole"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n", "invalid literal"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", "less than zero"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\n" + bytes(17), "too long"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + bytes(17), "too long"),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
            b"9\r\n012345678\r\n8\r\n01234567\r\n0\r\n\r\n",
            "too long",
        ),
        (b"HTTP/1.1 many\r\n\r\n", "invalid literal"),
        (b"SSH-2.0-x\r\n\r\n", "not HTTP"),
    ],
)
async def test_what_is_no_whole_answer_is_refused(answer: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        await read(answer)


async def test_an_exchange_ends_its_connection() -> None:
    got: asyncio.Queue[bytes] = asyncio.Queue()
    sent = request("GET", "/", "host")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.put_nowait(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")
        # It would keep the connection.
        rest = await reader.read()
        writer.close()
        await writer.wait_closed()
        got.put_nowait(rest)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        connection = await asyncio.open_connection("127.0.0.1", port)
        assert (await exchange(*connection, sent, MOST_BYTES)).body == b"hi"
        assert (await got.get(), await got.get()) == (sent, b"")
