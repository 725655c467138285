"""The service as a process: a listener, what is kept in the store, an orderly end."""

import asyncio
import contextlib
import errno
import logging
import os
import resource
import signal
import socket
from collections.abc import AsyncIterator, Callable

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from mesh.authority.admission import Admission
from mesh.authority.api import Api
from mesh.authority.credentials import Credentials
from mesh.authority.metrics import Metrics
from mesh.authority.ports import AuthorityOptions, AuthorityPorts, Serving
from mesh.authority.publication import ALIVE_TTL, Publication, fingerprints
from mesh.authority.registry import Registry
from mesh.ca.service import ServiceStatus
from mesh.errors import MeshError, OutsideError, PortInUse
from mesh.model.identity import TrustBundle
from mesh.model.policy import Address
from mesh.sockets import bound

# How long requests that are under way may take at the end.
GRACE_SECONDS = 5.0
_INTERVAL = ALIVE_TTL / 4
_BACKLOG = 1024

_log = structlog.get_logger(__name__)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether it is not about a peer that speaks no HTTP: aiohttp would quote what it sent, a
    token perhaps, in a traceback for each.
    """
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_http_log = logging.getLogger(__name__)
_http_log.addFilter(_is_news)


async def serve(
    options: AuthorityOptions, ports: AuthorityPorts, on_ready: Callable[[Serving], None]
) -> None:
    """Serve until SIGTERM or SIGINT; raises what `run` raises."""
    _open_many()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await run(options, ports, on_ready, stop)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _open_many() -> None:
    """Let this process have as many connections as it may: usual are 1,024 at first, and who only
    connects holds one for seconds.
    """
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(ValueError, OSError):  # a system that says "any number" and means less
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def run(
    options: AuthorityOptions,
    ports: AuthorityPorts,
    on_ready: Callable[[Serving], None],
    stop: asyncio.Event,
) -> None:
    """Serve until `stop` is set, then finish what is under way.

    `on_ready` is called once, when everybody who joins from now on is trusted by everybody.

    Raises:
        PortInUse: somebody else listens there.
        InputError: the store is of another mesh, or another authority serves this one.
        MeshError: the store or the signing core cannot be used.
    """
    with contextlib.ExitStack() as sockets:
        main = sockets.enter_context(_bind(options.listen))
        plain = sockets.enter_context(_bind(options.metrics)) if options.metrics else None
        service = Service(options, ports, _address(main), _address(plain) if plain else None)
        # Published before anybody can join: peers know the root of the first certificate.
        serving = await service.publish()
        async with service.listen(main, plain):
            on_ready(serving)
            async with asyncio.TaskGroup() as tasks:
                keeping = tasks.create_task(service.keep())
                await stop.wait()
                keeping.cancel()
        await service.leave()


class Service:
    """The parts of one service and what they share; `listening` is where it does, `plain` where
    it shows its figures.
    """

    def __init__(
        self,
        options: AuthorityOptions,
        ports: AuthorityPorts,
        listening: Address,
        plain: Address | None,
    ) -> None:
        self._options = options
        self._listening = listening
        self._plain = plain
        self._clock = ports.clock
        self._metrics = Metrics()
        self._credentials = Credentials(ports.signer, ports.clock, options.names)
        self._publication = Publication(ports.store)
        # Roots are told, and signed under, only once the server takes them itself.
        bundle = self._credentials.refresh
        registry = Registry(ports.store, ports.clock)
        admission = Admission(ports.signer, bundle, registry, ports.clock, options.longest_leaf)
        self._api = Api(admission, bundle, ports.clock, self._metrics, options.limits)

    @contextlib.asynccontextmanager
    async def listen(self, main: socket.socket, plain: socket.socket | None) -> AsyncIterator[None]:
        """Serve what connects to bound sockets. Leaving stops accepting, then finishes requests."""
        context = await self._credentials.context()
        loop = asyncio.get_running_loop()
        async with contextlib.AsyncExitStack() as stack:
            server = await self._server(stack, self._api.application())
            listener = await loop.create_server(
                server,
                sock=main,
                ssl=context,
                ssl_handshake_timeout=self._options.limits.handshake_seconds,
                ssl_shutdown_timeout=1.0,
                backlog=_BACKLOG,
            )
            stack.callback(listener.close)
            if plain is not None:
                figures = await self._server(stack, self._api.figures_application())
                stack.callback((await loop.create_server(figures, sock=plain)).close)
            yield

    async def publish(self) -> Serving:
        """Bring certificate and store up to date.

        Raises:
            MeshError: what either of them raises.
        """
        bundle = await self._credentials.refresh()
        self._metrics.not_after = self._credentials.not_after
        serving = self._serving(bundle)
        status = ServiceStatus(
            url=serving.url,
            version=self._options.version,
            trust_domain=bundle.trust_domain,
            roots=fingerprints(bundle),
            not_after=self._credentials.not_after,
        )
        await self._publication.publish(bundle, status)
        self._metrics.is_published = True
        return serving

    async def keep(self) -> None:
        """Publish again and again until cancelled: roots rotate, stores are wiped or away."""
        while True:
            await self._clock.sleep(_INTERVAL)
            try:
                await self.publish()
            except MeshError as error:
                if self._metrics.is_published:
                    _log.warning("the store is not up to date", reason=error.message)
                self._metrics.is_published = False

    async def leave(self) -> None:
        """Say in the store that nobody serves now; without a store, the lease does it."""
        try:
            async with asyncio.timeout(GRACE_SECONDS):
                await self._publication.withdraw()
        except (MeshError, TimeoutError) as error:
            _log.warning("the end was not told to the store", reason=str(error) or "too slow")

    async def _server(
        self, stack: contextlib.AsyncExitStack, application: web.Application
    ) -> web.Server:
        """An HTTP server for connections that others accept; ended with the stack."""
        runner = web.AppRunner(
            application,
            access_log=None,
            logger=_http_log,
            keepalive_timeout=self._options.limits.idle_seconds,
            shutdown_timeout=GRACE_SECONDS,
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        if runner.server is None:
            raise RuntimeError("a runner that was set up has a server")
        return runner.server

    def _serving(self, bundle: TrustBundle) -> Serving:
        host = self._options.names[0]
        # The root in use comes first.
        pin = fingerprints(bundle)[0]
        name = f"[{host}]" if ":" in host else host
        return Serving(
            url=f"https://{name}:{self._listening.port}?fingerprint={pin}",
            listen=self._listening,
            metrics=self._plain,
            fingerprint=pin,
            trust_domain=bundle.trust_domain,
            names=self._options.names,
        )


def _bind(address: Address) -> socket.socket:
    try:
        taken = bound(address)
    except OSError as error:
        where = f"{address.address}:{address.port}"
        if error.errno == errno.EADDRINUSE:
            hint = f"find who does (ss -ltnp sport = :{address.port}), or give another address"
            raise PortInUse(f"somebody else listens on {where}", hint) from error
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise OutsideError(f"cannot listen on {where}: {reason}", "see --listen") from error
    taken.setblocking(False)
    return taken


def _address(taken: socket.socket) -> Address:
    host, port = taken.getsockname()[:2]
    return Address(host, port)
