"""`mesh sync --metrics` as users start it."""

import signal
import subprocess
from datetime import timedelta
from pathlib import Path

import aiohttp

from mesh.model.policy import Address
from tests.support.mesh_host import CLOCK, DEADLINE, Host
from tests.support.prometheus import promtool
from tests.support.servers import free_ports

POLICY = (
    "{apiVersion: mesh/v1, kind: Service, metadata: {name: api}, spec: {protocol: http, port: 80}}"
)


def _repository(folder: Path) -> Path:
    repository = folder / "repository"
    repository.mkdir()
    (repository / "api.yaml").write_text(POLICY)
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    for arguments in (("init", "-q", "-b", "main"), ("add", "."), (*who, "commit", "-qm", "one")):
        subprocess.run(["git", "-C", repository, *arguments], check=True)
    return repository


async def _until(host: Host, address: Address, line: str) -> str:
    """The scrape that has the line."""
    text = ""
    end = CLOCK.monotonic() + DEADLINE
    while CLOCK.monotonic() < end:
        try:
            url = f"http://{address.address}:{address.port}/metrics"
            async with host.http.get(url) as answer:
                text = await answer.text()
        except aiohttp.ClientError:
            text = ""
        if line in text.splitlines():
            return text
        await CLOCK.sleep(timedelta(milliseconds=50))
    raise AssertionError(f"no {line} in {text}")


async def test_a_sync_tells_that_it_leads_and_is_synced(tmp_path: Path) -> None:
    async with Host() as host:
        address = Address("127.0.0.1", free_ports(1)[0])
        command = ("sync", "--repo", str(_repository(tmp_path)), "--interval", "1m")
        flags = ("--metrics", f"{address.address}:{address.port}")
        sync = await host.mesh(*command, *flags)
        text = await _until(host, address, 'mesh_sync_state{source="main",state="synced"} 1')
        assert 'mesh_sync_leading{source="main"} 1' in text.splitlines()
        assert 'mesh_sync_revision{source="main"} 1' in text.splitlines()
        assert promtool("check", "metrics", given=text) == ""

        second = await host.mesh(*command, "--source", "other", *flags)
        assert await second.wait() == 3
        assert "is in use" in (host.folder / "mesh.log").read_text()
        sync.send_signal(signal.SIGTERM)
        assert await sync.wait() == 0
