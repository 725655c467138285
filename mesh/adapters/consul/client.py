"""The Consul agent of this host over py-consul, with deadlines, pools and errors of ours."""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar, cast

import aiohttp
import consul.aio
import consul.base
import structlog
from consul.callback import CB
from consul.exceptions import (
    ACLDisabled,
    ACLPermissionDenied,
    BadRequest,
    ClientError,
    ConsulException,
)

from mesh.errors import Denied, InputError, Unavailable, UsageError

T = TypeVar("T")

_LOG = structlog.get_logger(__name__)

# Consul refuses the 201st connection of one address (`http_max_conns_per_client`), which several
# sidecars of a host share. Short requests have a pool of their own, so that no renewal waits for
# a blocking query.
QUERY_CONNECTIONS = 64
_SHORT_CONNECTIONS = 4
_NO_WAIT = timedelta()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsulSettings:
    """How to reach the Consul agent of this host. `address` is `host:port`.

    `token_file` is read again when Consul refuses the token. `datacenter` is the one that
    queries ask (None: the agent's). `cacert` replaces the machine's certificate authorities;
    `cert` and `key` are the client's. `timeout` bounds each request. None of Consul's own
    environment variables is read.
    """

    address: str = "127.0.0.1:8500"
    scheme: str = "http"
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    datacenter: str | None = None
    cacert: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    timeout: timedelta = timedelta(seconds=5)

    @property
    def url(self) -> str:
        """`scheme://host:port`."""
        return f"{self.scheme}://{self.address}"


@dataclass(frozen=True, slots=True)
class Right:
    """What a query needs in an ACL policy: `resource:read` on a name."""

    resource: str
    segment: str


class Client:
    """Two connection pools to one agent. An async context manager; entering connects to nobody.

    Raises:
        UsageError: on entering: the token or certificate files cannot be read.
    """

    def __init__(self, settings: ConsulSettings) -> None:
        self._settings = settings
        self._short: _Consul | None = None
        self._queries: _Consul | None = None
        # How often the token was replaced.
        self.tokens = 0

    async def __aenter__(self) -> Self:
        token, context = _token(self._settings), _tls(self._settings)
        self._short = _Consul(self._settings, context, token, connections=_SHORT_CONNECTIONS)
        self._queries = _Consul(self._settings, context, token, connections=QUERY_CONNECTIONS)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for client in (self._short, self._queries):
            if client is not None:
                await client.close()

    @property
    def short(self) -> consul.aio.Consul:
        """The library's client for requests that are answered at once."""
        return _entered(self._short)

    @property
    def queries(self) -> consul.aio.Consul:
        """The library's client for blocking queries."""
        return _entered(self._queries)

    def read_token_again(self) -> None:
        """Take up a token that was replaced in its file; `tokens` counts them."""
        try:
            token = _token(self._settings)
        except UsageError as error:
            _LOG.warning("consul token cannot be read", reason=error.message)
            return
        if token != self.short.token:
            self.short.token = self.queries.token = token
            self.tokens += 1

    async def ask(
        self, verb: str, call: Callable[[], Awaitable[T]], *, wait: timedelta = _NO_WAIT
    ) -> T:
        """One request; `verb` is for messages, `wait` what it may block by its nature.

        Raises:
            Unavailable: no answer in time, no connection, or (Failed) a server error.
            Denied: the token is unknown or lacks a right.
            InputError: Consul refuses what was sent.
        """
        with self._errors(verb):
            async with asyncio.timeout((self._settings.timeout + wait).total_seconds()):
                return await call()

    async def may_read(self, rights: Sequence[Right]) -> bool:
        """Whether an empty answer can be believed: to Consul, no rights look like no instances.

        Raises:
            Denied: the token lacks a right.
            Unavailable: as `ask`.
        """
        if not rights:
            return True
        wanted = [
            {"Resource": right.resource, "Access": "read", "Segment": right.segment}
            for right in rights
        ]

        def ask() -> Awaitable[object]:
            # What Consul's own interface asks; the library has no method for it.
            path, headers = "/v1/internal/acl/authorize", self.short.prepare_headers(None)
            post = self.short.http.post
            answer = post(CB.json(), path, data=json.dumps(wanted), headers=headers)
            return cast("Awaitable[object]", answer)

        try:
            answers = await self.ask("authorize", ask)
        except _Unsupported:
            return True  # access control is switched off
        if not isinstance(answers, list):
            return False  # a Consul that does not say
        for answer, right in zip(answers, rights, strict=False):
            if not answer.get("Allow"):
                raise Denied(
                    f'the Consul token lacks {right.resource}:read on "{right.segment}"',
                    hint="give its policy that right: without it, services look empty",
                )
        return True

    @contextmanager
    def _errors(self, verb: str) -> Iterator[None]:
        where = f"Consul at {self._settings.url}"
        try:
            yield
        except ACLPermissionDenied as error:
            raise Denied(
                f"{where} refuses to {verb}: {_first_line(error)}",
                hint="check the token and its policy: service:write to register, "
                "service:read and node:read to query",
            ) from error
        except ACLDisabled as error:
            raise _Unsupported(f"{where}: {_first_line(error)}") from error
        except (BadRequest, ClientError) as error:
            raise InputError(f"{where} refuses to {verb}: {_first_line(error)}") from error
        except TimeoutError as error:
            raise Unavailable(f"{where} gave no answer in time to {verb}") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"{where} cannot be reached: {_first_line(error)}") from error
        except (ConsulException, ValueError) as error:
            raise Failed(f"{where} fails to {verb}: {_first_line(error)}") from error


class Failed(Unavailable):
    """Consul answered, and not with what was asked for: also of things that it does not know."""


class _Unsupported(Unavailable):
    """Consul runs without access control."""


class _HTTP(consul.aio.HTTPClient):  # type: ignore[misc]  # the library has no types
    """The library's client with our session: its own adds the machine's authorities to
    `cacert`, and has one default limit of connections.
    """

    def __init__(
        self, settings: ConsulSettings, context: ssl.SSLContext | None, *, connections: int
    ) -> None:
        consul.base.HTTPClient.__init__(self, *_split(settings.address), settings.scheme)
        # No connection is used twice: aiohttp repeats a GET whose kept connection broke, and a
        # Consul that came back empty answers an index from before only after the whole wait.
        connector = aiohttp.TCPConnector(limit=connections, ssl=context or True, force_close=True)
        # Deadlines are ours, per request.
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(total=None)
        )


class _Consul(consul.aio.Consul):  # type: ignore[misc]  # the library has no types
    """The library without its environment variables."""

    def __init__(
        self,
        settings: ConsulSettings,
        context: ssl.SSLContext | None,
        token: str | None,
        *,
        connections: int,
    ) -> None:
        self._made = _HTTP(settings, context, connections=connections)
        host, port = _split(settings.address)
        super().__init__(
            host=host,
            port=port,
            scheme=settings.scheme,
            verify=True,
            dc=settings.datacenter,
        )
        # CONSUL_HTTP_TOKEN would override what was asked for.
        self.token = token

    def http_connect(self, *_arguments: object, **_keywords: object) -> _HTTP:
        return self._made


def _split(address: str) -> tuple[str, int]:
    """Host (an IPv6 address in its brackets) and port."""
    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdigit():
        raise UsageError(f'Consul address "{address}" is not host:port')
    return host, int(port)


def _token(settings: ConsulSettings) -> str | None:
    if settings.token_file is None:
        return settings.token
    try:
        return settings.token_file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f'Consul token file "{settings.token_file}" cannot be read: {_first_line(error)}'
        ) from error


def _tls(settings: ConsulSettings) -> ssl.SSLContext | None:
    if settings.scheme != "https":
        return None
    try:
        context = ssl.create_default_context(cafile=settings.cacert)
        if settings.cert is not None:
            context.load_cert_chain(settings.cert, settings.key)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"Consul certificates cannot be used: {_first_line(error)}",
            hint="cacert, cert and key are paths of PEM files",
        ) from error
    return context


def _entered(client: "_Consul | None") -> "_Consul":
    if client is None:
        raise RuntimeError("enter the client first")
    return client


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
