"""The service's API over HTTPS: join, renew, bundle, healthz, metrics.

    POST /v1/join    Authorization: Bearer TOKEN; {csr, lifetime_seconds, trust_domain,
                     namespace, service} -> {chain, bundle: {trust_domain, roots}}
    POST /v1/renew   the current certificate in the handshake; {csr, lifetime_seconds} -> the same
    GET  /v1/bundle  {trust_domain, roots}
    GET  /healthz    {status, trust_domain, published}
    GET  /metrics    Prometheus's text format

A refusal is {error: {code, message, hint}} with the status of its kind.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from cryptography import x509

from mesh.authority.admission import Admission, Ask, Issued, Refused
from mesh.authority.limits import Limiter, Limits, Rate
from mesh.authority.metrics import Metrics
from mesh.authority.ports import Bundles
from mesh.ca.bundle import write_bundle
from mesh.errors import CertificateRefused, MeshError
from mesh.metrics.exposition import CONTENT_TYPE
from mesh.model.identity import Identity, ServiceName
from mesh.ports import Clock

_BEARER = "Bearer "
_TOO_MANY, _BUSY = _FLOODS = ("too-many-requests", "busy")
# Whose flood is turned away is in the log once in a minute, and in the figures each time.
_TOLD = Rate(burst=1, per_second=1 / 60)
# What reading a body raises when it is cut off, or is not framed as it says.
_GONE = (ConnectionError, HttpProcessingError, web.RequestPayloadError)

_log = structlog.get_logger(__name__)


class Api:
    """The handlers of the service, and what they count."""

    def __init__(
        self,
        admission: Admission,
        bundle: Bundles,
        clock: Clock,
        figures: Metrics,
        limits: Limits,
    ) -> None:
        self._admission = admission
        self._newest_bundle = bundle
        self._clock = clock
        self._metrics = figures
        self._limits = limits
        self._requests = Limiter(limits.requests)
        # By kind: joins that are refused keep nobody behind the same address from renewing.
        self._refusals: defaultdict[str, Limiter] = defaultdict(lambda: Limiter(limits.refusals))
        self._told = Limiter(_TOLD)
        self._active = 0

    def application(self) -> web.Application:
        """The HTTPS application."""
        found = self.figures_application()
        found.router.add_post("/v1/join", self._join)
        found.router.add_post("/v1/renew", self._renew)
        found.router.add_get("/v1/bundle", self._bundle)
        return found

    def figures_application(self) -> web.Application:
        """What a plain listener may show: health and figures."""
        found = web.Application(client_max_size=self._limits.body_bytes, middlewares=[_as_json])
        found.router.add_get("/healthz", self._healthz)
        found.router.add_get("/metrics", self._figures)
        return found

    # --- handlers ----------------------------------------------------------------------------

    async def _join(self, request: web.Request) -> web.Response:
        async def work(ask: Ask) -> Issued:
            given = request.headers.get("Authorization", "")
            if not given.startswith(_BEARER):
                raise Refused(
                    401,
                    "token-missing",
                    "a join needs a token in its Authorization header",
                    "set MESH_TOKEN_FILE",
                )
            return await self._admission.join(given.removeprefix(_BEARER).strip(), ask)

        return await self._answer("join", request, work)

    async def _renew(self, request: web.Request) -> web.Response:
        return await self._answer(
            "renew", request, lambda ask: self._admission.renew(_shown(request), ask)
        )

    async def _bundle(self, request: web.Request) -> web.Response:
        try:
            self._check_peer("bundle", request.remote or "")
            return web.json_response(write_bundle(await self._newest_bundle()))
        except (Refused, MeshError) as error:
            return self._refuse("bundle", request, _refused(error))

    async def _healthz(self, request: web.Request) -> web.Response:
        try:
            domain = (await self._newest_bundle()).trust_domain
        except MeshError as error:
            return self._refuse("healthz", request, _refused(error))
        published = self._metrics.is_published
        return web.json_response({"status": "ok", "trust_domain": domain, "published": published})

    async def _figures(self, request: web.Request) -> web.Response:
        return web.Response(
            body=self._metrics.text().encode(), headers={"Content-Type": CONTENT_TYPE}
        )

    # --- one request -------------------------------------------------------------------------

    async def _answer(
        self, kind: str, request: web.Request, work: Callable[[Ask], Awaitable[Issued]]
    ) -> web.Response:
        started = self._clock.monotonic()
        self._active += 1
        try:
            self._check_peer(kind, request.remote or "")
            issued = await work(await self._read(request))
        except (Refused, MeshError) as error:
            return self._refuse(kind, request, _refused(error))
        else:
            self._metrics.issued(kind)
            answer = {"chain": issued.chain_pem.decode(), "bundle": write_bundle(issued.bundle)}
            return web.json_response(answer)
        finally:
            self._active -= 1
            self._metrics.took(kind, self._clock.monotonic() - started)

    async def _read(self, request: web.Request) -> Ask:
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                content = json.loads(await request.read())
            return _ask(request.remote or "", content)
        except TimeoutError:
            message = f"the request's body did not come within {self._limits.body_seconds:g} s"
            raise Refused(408, "too-slow", message) from None
        except web.HTTPRequestEntityTooLarge:
            message = f"the request's body is larger than {self._limits.body_bytes} bytes"
            raise Refused(413, "bad-request", message) from None
        except _GONE as error:
            raise Refused(400, "bad-request", "the connection or the body broke off") from error
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            message = f"the request's body is not as it should be ({type(error).__name__})"
            hint = "the sidecar and the authority may be of different versions"
            raise Refused(400, "bad-request", message, hint) from None

    def _check_peer(self, kind: str, peer: str) -> None:
        now = self._clock.monotonic()
        if not (self._requests.has_room(peer, now) and self._refusals[kind].has_room(peer, now)):
            raise Refused(
                429,
                _TOO_MANY,
                "this address asks too often, or was refused too often",
                "it is tried again; see the authority's log for what was refused",
            )
        # What is turned away is not counted: who asked too often waits for as long as anybody.
        self._requests.take(peer, now)
        if self._active > self._limits.at_once:
            raise Refused(503, _BUSY, "too many requests at once", "it is tried again")

    def _refuse(self, kind: str, request: web.Request, refused: Refused) -> web.Response:
        peer, now = request.remote or "", self._clock.monotonic()
        self._metrics.refused(kind, refused.code)
        if refused.code in _FLOODS:
            if not self._told.has_room(peer, now):
                return _error(refused)
            self._told.take(peer, now)
        elif 400 <= refused.status < 500:  # noqa: PLR2004
            self._refusals[kind].take(peer, now)
        _log.warning(
            "refused a request",
            kind=kind,
            peer=peer,
            code=refused.code,
            reason=refused.message,
        )
        return _error(refused)


@web.middleware
async def _as_json(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Whatever else goes wrong is told like a refusal, and nothing of our inside is."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _error(Refused(error.status, "bad-request", error.reason.lower()))
    except Exception:  # noqa: BLE001 - the top of a request: the service goes on
        _log.exception("a request failed unexpectedly", path=request.path)
        return _error(Refused(500, "bug", "the certificate authority failed; its log says more"))


def _error(refused: Refused) -> web.Response:
    headers = {"Retry-After": "1"} if refused.status in {429, 503} else {}
    error = {"code": refused.code, "message": refused.message, "hint": refused.hint}
    return web.json_response({"error": error}, status=refused.status, headers=headers)


def _refused(error: Refused | MeshError) -> Refused:
    match error:
        case Refused():
            return error
        case CertificateRefused():
            return Refused(422, error.code, error.message, error.hint)
        case _:
            return Refused(503, error.code, error.message, error.hint)


def _ask(peer: str, content: Any) -> Ask:
    expected = None
    if "service" in content:
        words = [content[name] for name in ("trust_domain", "namespace", "service")]
        if not all(isinstance(word, str) for word in words):
            raise TypeError
        expected = Identity(words[0], ServiceName(words[1], words[2]))
    return Ask(
        peer=peer,
        csr_pem=content["csr"].encode() if isinstance(content["csr"], str) else b"",
        lifetime=timedelta(seconds=float(content["lifetime_seconds"])),
        expected=expected,
    )


def _shown(request: web.Request) -> x509.Certificate | None:
    """The certificate that the peer proved in its handshake, if it showed one."""
    handshake = request.transport and request.transport.get_extra_info("ssl_object")
    shown = handshake.getpeercert(binary_form=True) if handshake else None
    return x509.load_der_x509_certificate(shown) if shown else None
