"""Envoy's admin interface, on its Unix socket."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path

from mesh.errors import Unavailable
from mesh.exchange import Request, exchange
from mesh.metrics.statistics import Statistics, read_statistics

_TIMEOUT = timedelta(seconds=2)
_MOST_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Who an Envoy is: `version` as `--version` says it, `node` the id of its bootstrap."""

    version: str
    node: str


@dataclass(frozen=True, slots=True)
class Load:
    """What is open downstream: requests and TCP connections; `total` is how many ever were."""

    active: int
    total: int


class Admin:
    """Requests to the admin interface at `socket`. Each call has a deadline of two seconds and
    raises Unavailable where there is no good answer.
    """

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def is_ready(self) -> bool:
        """Whether the first configuration is in force and Envoy is not draining."""
        try:
            await self._request("GET", "/ready")
        except Unavailable:
            return False
        return True

    async def server_info(self) -> ServerInfo:
        """Which Envoy answers."""
        document = json.loads(await self._request("GET", "/server_info"))
        return ServerInfo(version=str(document["version"]), node=str(document["node"]["id"]))

    async def load(self) -> Load:
        """What Envoy is busy with, without the admin interface itself."""
        pattern = r"filter=downstream_(cx_active|rq_active|cx_total|rq_total)$"
        text = await self._request("GET", f"/stats?format=json&{pattern}")
        return read_load(json.loads(text))

    async def statistics(self) -> Statistics:
        """What was counted since the start. A gauge is told from the first, for "no endpoint" is
        news; what else nothing has happened to is left out.

        Distributions come last: the first question makes Envoy's workers hand in theirs.
        """
        parts = []
        for kind in ("type=Counters&usedonly", "type=Gauges", "type=Histograms&usedonly"):
            path = f"/stats?format=json&histogram_buckets=detailed&{kind}"
            parts.append(await self._request("GET", path))
        try:
            return await asyncio.to_thread(lambda: read_statistics(*map(json.loads, parts)))
        except (KeyError, TypeError, ValueError) as error:
            raise Unavailable(f"envoy's statistics are not what they were: {error}") from error

    async def leave(self) -> None:
        """Tell every downstream connection, with its next response, not to come back."""
        await self._request("POST", "/healthcheck/fail")

    async def close_listeners(self) -> None:
        """Accept no new connections; open ones live on."""
        await self._request("POST", "/drain_listeners")

    async def quit(self) -> None:
        """End the process."""
        await self._request("POST", "/quitquitquit")

    async def _request(self, method: str, path: str) -> str:
        try:
            async with asyncio.timeout(_TIMEOUT.total_seconds()):
                connection = await asyncio.open_unix_connection(str(self._socket))
                answer = await exchange(*connection, Request(method, path, "envoy"), _MOST_BYTES)
            text = answer.body.decode()
        except (OSError, TimeoutError, ValueError) as error:
            reason = str(error) or "no answer in time"
            raise Unavailable(f'envoy does not answer on "{self._socket}": {reason}') from error
        if answer.status != HTTPStatus.OK:
            raise Unavailable(f"envoy answers {answer.status} to {path}: {text.strip()}")
        return text


def read_load(statistics: Mapping[str, object]) -> Load:
    """Requests, and connections that are not of an HTTP listener, from `/stats?format=json`.

    A TCP listener counts connections only (`listener.<address>`); an HTTP one counts the same
    connections twice (`listener.<address>` and `http.<prefix>`), which leaves the difference.
    """
    counts = {"rq_active": 0, "rq_total": 0, "cx_active": 0, "cx_total": 0}
    entries = statistics.get("stats", [])
    for entry in entries if isinstance(entries, list) else []:
        name, value = entry.get("name"), entry.get("value")
        if not isinstance(name, str) or not isinstance(value, int):
            continue
        scope, _, kind = name.rpartition(".downstream_")
        if kind not in counts or ".admin" in f".{scope}" or ".worker_" in scope:
            continue
        if scope.startswith("listener.") and kind.startswith("cx_"):
            counts[kind] += value
        elif scope.startswith("http."):
            counts[kind] += value if kind.startswith("rq_") else -value
    return Load(
        active=counts["rq_active"] + max(0, counts["cx_active"]),
        total=counts["rq_total"] + max(0, counts["cx_total"]),
    )
