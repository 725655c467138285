"""The endpoint answers two paths, to anybody, and is hurt by nobody."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from mesh.adapters.scrape import ScrapeEndpoint
from mesh.errors import PortInUse, Unavailable
from mesh.model.policy import Address

ANY = Address("127.0.0.1", 0)


async def _collect() -> str:
    return "mesh_x 1\n"


@asynccontextmanager
async def _open(endpoint: ScrapeEndpoint) -> AsyncIterator[str]:
    await endpoint.open()
    try:
        yield f"http://127.0.0.1:{endpoint.address.port}"
    finally:
        await endpoint.close()


async def _ask(url: str, method: str = "GET") -> tuple[int, str, str]:
    async with aiohttp.request(method, url) as answer:
        return answer.status, answer.headers["content-type"], await answer.text()


async def test_metrics_are_what_is_collected_and_what_the_process_uses() -> None:
    async with _open(ScrapeEndpoint(ANY, _collect)) as url:
        status, media, body = await _ask(f"{url}/metrics?x=1")
    assert (status, media) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert body.startswith("mesh_x 1\n")
    assert "process_cpu_seconds_total" in body


async def test_health_is_the_trouble_there_is() -> None:
    trouble: list[str | None] = [None]
    async with _open(ScrapeEndpoint(ANY, _collect, lambda: trouble[0])) as url:
        assert (await _ask(f"{url}/healthz"))[::2] == (200, "ok\n")
        trouble[0] = "the sidecar does not serve"
        assert (await _ask(f"{url}/healthz"))[::2] == (503, "the sidecar does not serve\n")


@pytest.mark.parametrize("path", ["/", "/metrics/", "/stats", "/quitquitquit", "/healthz/x"])
async def test_there_is_nothing_else(path: str) -> None:
    async with _open(ScrapeEndpoint(ANY, _collect)) as url:
        assert (await _ask(url + path))[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_nothing_is_changed_through_it(method: str) -> None:
    async with _open(ScrapeEndpoint(ANY, _collect)) as url:
        assert (await _ask(f"{url}/metrics", method))[0] == 405


async def test_what_cannot_be_collected_is_a_failed_scrape() -> None:
    async def collect() -> str:
        raise Unavailable("envoy does not answer")

    async with _open(ScrapeEndpoint(ANY, collect)) as url:
        assert (await _ask(f"{url}/metrics"))[::2] == (503, "envoy does not answer\n")


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x00\xa5\r\n\r\n", b"GET\r\n\r\n", b"x" * 20_000])
async def test_noise_does_no_harm(sent: bytes) -> None:
    endpoint = ScrapeEndpoint(ANY, _collect)
    async with _open(endpoint) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.address.port)
        writer.write(sent)
        await reader.read()
        writer.close()
        assert (await _ask(f"{url}/healthz"))[0] == 200


async def test_slow_readers_leave_room() -> None:
    endpoint = ScrapeEndpoint(ANY, _collect)
    async with _open(endpoint) as url:
        idle = [await asyncio.open_connection("127.0.0.1", endpoint.address.port) for _ in range(7)]
        assert (await _ask(f"{url}/metrics"))[0] == 200
        for _, writer in idle:
            writer.close()


async def test_a_port_in_use_names_the_flag() -> None:
    async with _open(ScrapeEndpoint(ANY, _collect)) as url:
        taken = Address("127.0.0.1", int(url.rpartition(":")[2]))
        with pytest.raises(PortInUse, match=r"in use .* \(--metrics\)"):
            await ScrapeEndpoint(taken, _collect).open()


async def test_the_port_is_free_again_at_once() -> None:
    endpoint = ScrapeEndpoint(ANY, _collect)
    async with _open(endpoint) as url:
        await _ask(f"{url}/metrics")
        port = endpoint.address.port
    async with _open(ScrapeEndpoint(Address("127.0.0.1", port), _collect)) as url:
        assert (await _ask(f"{url}/healthz"))[0] == 200
