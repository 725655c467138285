"""The shop's programs, ordinary HTTP services that know nothing of the mesh.

    python -m mesh.demo.shop stock --port 9001
    python -m mesh.demo.shop api --port 9002 --version v1 --outbound 127.0.0.1:15001
    python -m mesh.demo.shop web --port 9003 --outbound 127.0.0.1:15001
    python -m mesh.demo.shop offers --port 9004
    python -m mesh.demo.shop get http://api/items        one request, by $http_proxy

web asks api, api asks stock, each through its own sidecar by Host; nobody asks offers. Nothing
else is known to them.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web

FORWARDED = ("x-beta",)


class Shop:
    """One program of the shop; `calls` is the service that it asks, if any."""

    def __init__(self, name: str, version: str, outbound: str | None) -> None:
        self._name = name
        self._version = version
        self._outbound = outbound
        self._calls = {"web": "api", "api": "stock"}.get(name)
        self._session: aiohttp.ClientSession | None = None

    def application(self) -> web.Application:
        """The routes: `/healthz` and everything else."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_route("*", "/{path:.*}", self._answer)
        app.cleanup_ctx.append(self._client)
        return app

    async def _client(self, app: web.Application) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
            self._session = session
            yield

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _answer(self, request: web.Request) -> web.Response:
        body: dict[str, object] = {"service": self._name, "version": self._version}
        if self._name == "stock":
            body["items"] = {"apples": 7, "pears": 3}
        if self._name == "offers":
            body["offers"] = ["pears, two for one"]
        if self._calls is None or self._outbound is None:
            return web.json_response(body)
        headers = {"host": self._calls}
        headers |= {name: request.headers[name] for name in FORWARDED if name in request.headers}
        if self._session is None:
            return web.json_response({"error": "starting"}, status=503)
        url = f"http://{self._outbound}/items"
        try:
            async with self._session.request(request.method, url, headers=headers) as answer:
                text = await answer.text()
                reason = answer.headers.get("x-mesh-reason")
        except (aiohttp.ClientError, TimeoutError) as error:
            return web.json_response(body | {"error": str(error)}, status=502)
        if answer.status != 200:
            return web.json_response(body | {"error": reason or text}, status=answer.status)
        return web.json_response(body | {"asked": json.loads(text or "null")})


async def fetch(url: str, method: str) -> int:
    """One request through `http_proxy`; prints status and body, 0 if the answer was below 400."""
    timeout = aiohttp.ClientTimeout(total=10)
    async with (
        aiohttp.ClientSession(trust_env=True, timeout=timeout) as session,
        session.request(method, url) as answer,
    ):
        reason = answer.headers.get("x-mesh-reason", "")
        text = (await answer.text()).strip()
        sys.stdout.write(f"{answer.status} {reason} {text}\n")
    return 0 if answer.status < 400 else 1


def main() -> int:
    """Parse the command line and run one program until it is ended."""
    parser = argparse.ArgumentParser(prog="python -m mesh.demo.shop")
    programs = parser.add_subparsers(dest="program", required=True)
    for name in ("web", "api", "stock", "offers"):
        program = programs.add_parser(name)
        program.add_argument("--port", type=int, required=True)
        program.add_argument("--version", default="v1")
        program.add_argument("--outbound", default=os.environ.get("MESH_OUTBOUND"))
    client = programs.add_parser("get")
    client.add_argument("url")
    client.add_argument("--method", default="GET")
    options = parser.parse_args()
    if options.program == "get":
        return asyncio.run(fetch(options.url, options.method))
    shop = Shop(options.program, options.version, options.outbound)
    web.run_app(shop.application(), host="127.0.0.1", port=options.port, print=None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
