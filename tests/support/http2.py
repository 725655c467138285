"""A client that speaks just enough HTTP/2 over TLS to ask once and read the status."""

import socket
import ssl
from pathlib import Path

from tests.support.certificates import Presented

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS, _HEADERS = 4, 1
_END_STREAM_AND_HEADERS = 0x5
# RFC 7541 appendix A: the static table's `:method: GET`, `:scheme: https`, `:path: /`.
_REQUEST = b"\x82\x87\x84" + b"\x01\x03api"
_STATUS_200 = 0x88
_HEADER_BYTES = 9


def context(leaf: Presented | None, folder: Path) -> ssl.SSLContext:
    """A client that trusts anybody and presents `leaf`."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    made.set_alpn_protocols(["h2"])
    if leaf is not None:
        file = folder / "leaf.pem"
        file.write_bytes(leaf.chain_pem + leaf.private_key_pem)
        made.load_cert_chain(file)
    return made


def is_answered(port: int, context: ssl.SSLContext) -> bool:
    """Whether `GET /` gets a 200; False for another status and for no answer at all."""
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="api") as secure,
        ):
            secure.sendall(_PREFACE + _frame(_SETTINGS, 0, b"", 0))
            secure.sendall(_frame(_HEADERS, _END_STREAM_AND_HEADERS, _REQUEST, 1))
            return _status_is_200(secure)
    except (ssl.SSLError, ConnectionError, EOFError):
        return False


def _frame(kind: int, flags: int, payload: bytes, stream: int) -> bytes:
    """RFC 9113 section 4.1."""
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags])
    return head + stream.to_bytes(4, "big") + payload


def _status_is_200(secure: ssl.SSLSocket) -> bool:
    while True:
        head = _read(secure, _HEADER_BYTES)
        payload = _read(secure, int.from_bytes(head[:3], "big"))
        if head[3] == _HEADERS:
            return payload[0] == _STATUS_200


def _read(secure: ssl.SSLSocket, size: int) -> bytes:
    """`size` bytes.

    Raises:
        EOFError: the other side hung up before.
    """
    data = b""
    while len(data) < size:
        part = secure.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data
