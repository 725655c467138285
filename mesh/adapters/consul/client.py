"""The Consul agent of this host over its HTTP API, with deadlines, turns and errors of ours."""

import asyncio
import json
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote, urlencode

import structlog

from mesh.errors import Denied, InputError, MeshError, Unavailable, UsageError
from mesh.exchange import Answer, Request, exchange

_LOG = structlog.get_logger(__name__)

# Consul refuses the 201st connection of one address (`http_max_conns_per_client`), which several
# sidecars of a host share. Short requests have turns of their own, so that no renewal waits for
# a blocking query.
QUERY_CONNECTIONS = 64
_SHORT_CONNECTIONS = 4
_MOST_BYTES = 64 << 20
_NO_WAIT = timedelta()
_NONE: Mapping[str, str] = {}


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
    """Requests to one agent; `open` reads the token and certificate files.

    A connection serves one request: a Consul that came back empty answers an index from before
    only after the whole wait, so a query may not be repeated unseen where a kept one broke.
    """

    def __init__(self, settings: ConsulSettings) -> None:
        self._settings = settings
        self._host, self._port = "", 0
        self._token: str | None = None
        self._context: ssl.SSLContext | None = None
        self._turns = asyncio.Semaphore(_SHORT_CONNECTIONS)
        # How often the token was replaced.
        self.tokens = 0

    def open(self) -> None:
        """Make it ready; connects to nobody.

        Raises:
            UsageError: the address is none, or the token or certificate files cannot be read.
        """
        self._host, self._port = _split(self._settings.address)
        self._token, self._context = _token(self._settings), _tls(self._settings)

    def read_token_again(self) -> None:
        """Take up a token that was replaced in its file; `tokens` counts them."""
        try:
            token = _token(self._settings)
        except UsageError as error:
            _LOG.warning("consul token cannot be read", reason=error.message)
            return
        if token != self._token:
            self._token = token
            self.tokens += 1

    async def put(self, verb: str, path: str, body: object = None) -> bool:
        """Write; `verb` is for messages. False: Consul does not know what the path names.

        Raises:
            Unavailable: no answer in time, no connection, or (Failed) a server error.
            Denied: the token is unknown or lacks a right.
            InputError: Consul refuses what was sent.
        """
        content = b"" if body is None else json.dumps(body).encode()
        answer = await self._ask(verb, "PUT", path, content)
        return answer.status != HTTPStatus.NOT_FOUND

    async def get(self, verb: str, path: str) -> object:
        """What the agent says; None: Consul does not know it. Raises as `put`."""
        return self._content(verb, await self._ask(verb, "GET", path))

    async def query(
        self, path: str, index: int | None = None, wait: timedelta = _NO_WAIT
    ) -> tuple[int, object]:
        """The index and what Consul says, once that is newer than `index` or `wait` is over.

        Raises as `put`.
        """
        asked = {"dc": self._settings.datacenter, "index": index or None}
        if index:
            asked["wait"] = f"{wait.total_seconds():g}s"
        given = urlencode({name: value for name, value in asked.items() if value is not None})
        answer = await self._ask("query", "GET", f"{path}?{given}", wait=wait)
        try:
            found = int(answer.headers["x-consul-index"])
        except (KeyError, ValueError) as error:
            raise Failed(f"{self._where} fails to query: it gives no index") from error
        return found, self._content("query", answer)

    async def may_read(self, rights: Sequence[Right]) -> bool:
        """Whether an empty answer can be believed: to Consul, no rights look like no instances.

        Raises:
            Denied: the token lacks a right.
            Unavailable: as `put`.
        """
        if not rights:
            return True
        wanted = [
            {"Resource": right.resource, "Access": "read", "Segment": right.segment}
            for right in rights
        ]
        try:
            # What Consul's own interface asks.
            path, body = "/v1/internal/acl/authorize", json.dumps(wanted).encode()
            answer = await self._ask("authorize", "POST", path, body)
        except _Unsupported:
            return True  # access control is switched off
        answers = self._content("authorize", answer)
        if not isinstance(answers, list):
            return False  # a Consul that does not say
        for answered, right in zip(answers, rights, strict=False):
            if not answered.get("Allow"):
                raise Denied(
                    f'the Consul token lacks {right.resource}:read on "{right.segment}"',
                    hint="give its policy that right: without it, services look empty",
                )
        return True

    @property
    def _where(self) -> str:
        return f"Consul at {self._settings.url}"

    async def _ask(
        self, verb: str, method: str, target: str, body: bytes = b"", wait: timedelta = _NO_WAIT
    ) -> Answer:
        # Consul adds up to a sixteenth to the wait.
        limit = self._settings.timeout + wait * 17 / 16
        with self._errors(verb):
            headers = {"x-consul-token": self._token} if self._token else _NONE
            asked = Request(method, target, self._settings.address, headers, body)
            async with (
                asyncio.timeout(limit.total_seconds()),
                nullcontext() if wait else self._turns,
            ):
                connection = await asyncio.open_connection(
                    self._host.strip("[]"), self._port, ssl=self._context
                )
                answer = await exchange(*connection, asked, _MOST_BYTES)
        if answer.status >= HTTPStatus.BAD_REQUEST and answer.status != HTTPStatus.NOT_FOUND:
            raise self._refusal(verb, answer)
        return answer

    def _content(self, verb: str, answer: Answer) -> object:
        if answer.status == HTTPStatus.NOT_FOUND:
            return None
        with self._errors(verb):
            content: object = json.loads(answer.body)
        return content

    def _refusal(self, verb: str, answer: Answer) -> MeshError:
        said = _first_line(answer.body.decode(errors="replace"))
        if answer.status == HTTPStatus.FORBIDDEN:
            return Denied(
                f"{self._where} refuses to {verb}: {said}",
                hint="check the token and its policy: service:write to register, "
                "service:read and node:read to query",
            )
        if answer.status == HTTPStatus.UNAUTHORIZED:
            return _Unsupported(f"{self._where}: {said}")
        if answer.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return InputError(f"{self._where} refuses to {verb}: {answer.status} {said}")
        return Failed(f"{self._where} fails to {verb}: {answer.status} {said}")

    @contextmanager
    def _errors(self, verb: str) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise Unavailable(f"{self._where} gave no answer in time to {verb}") from error
        except OSError as error:
            reason = _first_line(str(error)) or type(error).__name__
            raise Unavailable(f"{self._where} cannot be reached: {reason}") from error
        except ValueError as error:
            raise Failed(f"{self._where} fails to {verb}: {_first_line(str(error))}") from error


class Failed(Unavailable):
    """Consul answered, and not with what was asked for: also of things that it does not know."""


class _Unsupported(Unavailable):
    """Consul runs without access control."""


def path(api: str, *names: str) -> str:
    """The path of an API of version 1 about what has these names."""
    return "/".join(("/v1", api, *(quote(name, safe=":") for name in names)))


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
            f'Consul token file "{settings.token_file}" cannot be read: {_first_line(str(error))}'
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
            f"Consul certificates cannot be used: {_first_line(str(error))}",
            hint="cacert, cert and key are paths of PEM files",
        ) from error
    return context


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
