"""The endpoint that a git server calls after a push: look now.

It says only that there may be something new: what is applied always comes from the repository
itself, so a call that is replayed costs a look and nothing else. GitHub, Gitea and Forgejo sign
the body (`X-Hub-Signature-256`: HMAC-SHA-256, hex); GitLab sends the secret (`X-Gitlab-Token`).
"""

import asyncio
import errno
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from aiohttp import web

from mesh.errors import MeshError, OutsideError, PortInUse, UsageError
from mesh.model.policy import Address
from mesh.ports import Clock

MAX_BODY_BYTES = 4 * 1024 * 1024
LEAST_SECRET_BYTES = 16
RATE = 5.0
BURST = 20.0
_BODY_SECONDS = 10.0
_MOST_AT_ONCE = 16
_PREFIX = "sha256="

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WebhookOptions:
    """Where to listen; port 0 is a free one."""

    address: Address
    secret: bytes = field(repr=False)


class Webhook:
    """Listens while `run` runs, and calls `wake` for each call that knows the secret."""

    def __init__(
        self,
        options: WebhookOptions,
        clock: Clock,
        wake: Callable[[], Awaitable[None]],
        on_ready: Callable[[Address], None] = lambda _: None,
    ) -> None:
        self._options = options
        self._wake = wake
        self._on_ready = on_ready
        self._bucket = Bucket(clock, RATE, BURST)
        self._busy = 0

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            PortInUse: somebody listens there already.
        """
        application = web.Application(client_max_size=MAX_BODY_BYTES)
        application.router.add_post("/", self._post)
        application.router.add_get("/healthz", _healthz)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        address = self._options.address
        try:
            site = web.TCPSite(runner, address.address, address.port, reuse_address=True)
            try:
                await site.start()
            except OSError as error:
                raise _cannot_listen(address, error) from error
            host, port = runner.addresses[0][:2]
            _log.info("the webhook listens", address=f"{host}:{port}")
            self._on_ready(Address(host, port))
            await asyncio.get_running_loop().create_future()
        finally:
            await runner.cleanup()

    async def _post(self, request: web.Request) -> web.Response:
        if self._busy >= _MOST_AT_ONCE or not self._bucket.take():
            raise web.HTTPTooManyRequests(headers={"Retry-After": "1"}, text="too many calls\n")
        self._busy += 1
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                body = await request.read()
        except TimeoutError as error:
            raise web.HTTPRequestTimeout(text="the body took too long\n") from error
        finally:
            self._busy -= 1
        if not is_genuine(self._options.secret, request.headers, body):
            _log.warning("a call of the webhook without the secret", peer=request.remote)
            raise web.HTTPUnauthorized(text="the signature is missing or wrong\n")
        try:
            await self._wake()
        except MeshError as error:
            raise web.HTTPServiceUnavailable(text=f"{error.message}\n") from error
        return web.Response(status=202, text="looking\n")


class Bucket:
    """At most `rate` a second in the long run, `burst` at once."""

    def __init__(self, clock: Clock, rate: float, burst: float) -> None:
        self._clock = clock
        self._rate = rate
        self._burst = burst
        self._left = burst
        self._filled = clock.monotonic()

    def take(self) -> bool:
        """Whether one more may pass now."""
        now = self._clock.monotonic()
        self._left = min(self._burst, self._left + (now - self._filled) * self._rate)
        self._filled = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


def is_genuine(secret: bytes, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether the caller knows the secret; comparisons take the same time whatever differs."""
    signature = headers.get("X-Hub-Signature-256", "")
    if signature:
        wanted = _PREFIX + hmac.new(secret, body, hashlib.sha256).hexdigest()
        return hmac.compare_digest(signature.encode(), wanted.encode())
    token = headers.get("X-Gitlab-Token", "")
    return bool(token) and hmac.compare_digest(token.encode(errors="replace"), secret)


def read_secret(file: Path) -> bytes:
    """The secret in a file, without the white space around it. Blocks.

    Raises:
        UsageError: it cannot be read, others may read it, or it is too short.
    """
    try:
        mode = file.stat().st_mode
        secret = file.read_bytes().strip()
    except OSError as error:
        raise UsageError(f'--webhook-secret: "{file}" cannot be read: {error.strerror}') from error
    if mode & 0o007:
        raise UsageError(
            f'--webhook-secret: everybody may read "{file}" (mode {mode & 0o777:o})',
            f'chmod 600 "{file}"',
        )
    if len(secret) < LEAST_SECRET_BYTES:
        raise UsageError(
            f'--webhook-secret: the secret in "{file}" has {len(secret)} bytes; '
            f"it needs {LEAST_SECRET_BYTES}",
            "for example: openssl rand -hex 32",
        )
    return secret


def _cannot_listen(address: Address, error: OSError) -> OutsideError:
    where = f"{address.address}:{address.port}"
    if error.errno == errno.EADDRINUSE:
        return PortInUse(f"somebody already listens on {where}", "choose another with --webhook")
    return OutsideError(f"cannot listen on {where}: {error.strerror}", "see --webhook")


async def _healthz(_request: web.Request) -> web.Response:
    return web.Response(text="ok\n")
