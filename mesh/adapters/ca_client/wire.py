"""One exchange with the service over HTTPS, and what each way to fail means."""

import asyncio
import json
import os
import ssl
from collections.abc import Mapping
from typing import Any

from mesh.errors import CertificateRefused, Denied, MeshError, Unavailable
from mesh.exchange import Request, exchange
from mesh.ports import Clock

ANSWER_SECONDS = 10.0
CONNECT_SECONDS = 5.0
OTHER_CLOCK = "compare the clocks of this host and of the authority's; run a time service on both"
_MOST_BYTES = 1 << 20
# X509_V_ERR_* of OpenSSL's x509_vfy.h.
_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_NAME, _OTHER_ADDRESS = 62, 64


class Untrusted(Exception):
    """The server's certificate does not lead to the roots at hand."""


class HungUp(Unavailable):
    """Connected, and then no answer: so looks a certificate that the service does not take."""


class Wire:
    """Asks the service at `host` and `port`."""

    def __init__(self, host: str, port: int, clock: Clock) -> None:
        self._host = host
        self._port = port
        self._clock = clock
        self.url = f"https://{host}:{port}"

    async def request(
        self,
        context: ssl.SSLContext,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """One exchange on a connection of its own; what a 200 said.

        Raises:
            Untrusted: the server's certificate is not under the context's roots.
            MeshError: anything else.
        """
        url, is_connected = self.url, False
        content = b"" if body is None else json.dumps(body).encode()
        asked = Request(method, path, f"{self._host}:{self._port}", headers or {}, content)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                async with asyncio.timeout(CONNECT_SECONDS):
                    connection = await asyncio.open_connection(
                        self._host.strip("[]"), self._port, ssl=context
                    )
                is_connected = True
                answer = await exchange(*connection, asked, _MOST_BYTES)
        except ssl.SSLCertVerificationError as error:
            raise self._unverified(error) from error
        except TimeoutError as error:
            message = f"the certificate authority at {url} does not answer in time"
            raise Unavailable(message, self._down) from error
        except OSError as error:
            message = f"the certificate authority at {url} is out of reach: {_reason(error)}"
            raise (HungUp if is_connected else Unavailable)(message, self._down) from error
        except ValueError as error:
            if isinstance(error.__cause__, EOFError):
                message = f"the certificate authority at {url} hung up: {error}"
                raise HungUp(message, self._down) from error
            raise self.strange(str(error)) from error
        return self._understood(answer.status, answer.body)

    @property
    def _down(self) -> str:
        return "see that `mesh ca serve` runs there and can be reached; it is tried again"

    def _unverified(self, error: ssl.SSLCertVerificationError) -> Exception:
        """What a refused server certificate means."""
        url, now = self.url, self._clock.now()
        match error.verify_code:
            case code if code in (_NOT_YET_VALID, _EXPIRED):
                when = "is not valid yet" if code == _NOT_YET_VALID else "has expired"
                message = (
                    f"the certificate of {url} {when} by this host's clock, "
                    f"which says {now:%Y-%m-%d %H:%M:%S}Z"
                )
                return Denied(message, OTHER_CLOCK)
            case code if code in (_OTHER_NAME, _OTHER_ADDRESS):
                return Denied(
                    f'the certificate of {url} is not for "{self._host}"',
                    f"start it with `mesh ca serve --name {self._host}`, or use in "
                    "MESH_CA a name that it has",
                )
            case _:
                return Untrusted(error.verify_message or str(error))

    def _understood(self, status: int, content: bytes) -> Any:
        try:
            answer = json.loads(content)
            error = answer.get("error")
            if status == 200 and error is None:  # noqa: PLR2004
                return answer
            message, hint = str(error["message"]), str(error["hint"])
        except (ValueError, KeyError, TypeError, AttributeError) as problem:
            raise self.strange(f"status {status}") from problem
        raise _kind(status)(f"the certificate authority refuses: {message}", hint)

    def strange(self, what: str) -> Unavailable:
        """What is told of an answer that is none."""
        return Unavailable(
            f"{self.url} does not answer as a certificate authority does: {what}",
            "see MESH_CA; it is the address of `mesh ca serve`",
        )


def _kind(status: int) -> type[MeshError]:
    match status:
        case 401 | 403:
            return Denied
        case 422:
            return CertificateRefused
        case _:
            return Unavailable


def _reason(error: OSError) -> str:
    """What happened, in the system's words."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).lower().replace("_", " ")
    if error.errno and error.errno > 0:
        return os.strerror(error.errno).lower()
    return str(error) or type(error).__name__
