"""`mesh sidecar` and `mesh run` as users start them: processes that get signals."""

import asyncio
import signal
import stat
import sys
from collections.abc import AsyncIterator

import pytest

from mesh.adapters.envoy.process import start_time
from tests.support.mesh_host import DEADLINE, Host, more

DOCUMENTS = """
apiVersion: mesh/v1
kind: Service
metadata: {name: api}
spec: {protocol: http, port: 80}
---
apiVersion: mesh/v1
kind: AccessPolicy
metadata: {name: api}
spec:
  targetRefs: [{kind: Service, name: api}]
  rules: [{name: web, action: allow, from: [{service: web}]}]
---
apiVersion: mesh/v1
kind: Service
metadata: {name: ledger, namespace: shop}
spec: {protocol: tcp, port: 9000}
---
apiVersion: mesh/v1
kind: AccessPolicy
metadata: {name: ledger, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: ledger}]
  rules: [{name: web, action: allow, from: [{service: web, namespace: default}]}]
"""


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    async with Host() as host:
        await host.apply(DOCUMENTS)
        yield host


async def test_a_killed_agent_loses_no_request(host: Host) -> None:
    app = host.apps("api")["api"]
    api = await host.spawn("api", app)
    web = await host.start("web")
    assert api.ready["ready"] is True
    assert (api.ready["service"], api.ready["namespace"]) == ("api", "default")
    assert api.ready["revision"] == 1
    envoy = api.envoy
    async with host.load(web, "api") as counts:
        await more(counts, 100)
        assert await api.signal(signal.SIGKILL) == -signal.SIGKILL
        await more(counts, 200)
        again = await host.spawn("api", app)
        await more(counts, 200)
        assert (again.ready["id"], again.envoy) == (api.ready["id"], envoy)
        assert await again.signal(signal.SIGTERM) == 0
    failures = {answer for answer in counts if answer != "200"}
    assert failures <= {"503 no-healthy-endpoint"}  # after the last instance had left
    assert not (again.folder / "envoy.json").exists()
    assert start_time(envoy) is None


async def test_what_a_sidecar_keeps_is_its_owners_alone(host: Host) -> None:
    api = await host.spawn("api", host.apps("api")["api"])
    for path in (api.folder, *api.folder.iterdir()):
        expected = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.lstat().st_mode) == expected, path
    assert await api.signal(signal.SIGINT) == 0


async def run(host: Host, *command: str) -> tuple[int, str]:
    """The exit code and standard output of `mesh run --service web -- COMMAND`."""
    process = await host.mesh("run", "--service", "web", "--", *command)
    async with asyncio.timeout(DEADLINE):
        out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()


async def test_run_gives_a_program_its_way_out_and_returns_its_code(host: Host) -> None:
    await host.start("api", host.apps("api")["api"])
    await host.start("shop/ledger", await host.lines("ledger"))
    program = """
import os, socket, sys, urllib.request
print(urllib.request.urlopen("http://api/items").status, os.environ["no_proxy"])
host, port = os.environ["MESH_UPSTREAM_LEDGER_SHOP"].split(":")
with socket.create_connection((host, int(port))) as ledger:
    ledger.sendall(b"hello\\n")
    print(ledger.makefile().readline().strip(), os.environ["MESH_OUTBOUND"][:10])
sys.exit(7)
"""
    code, out = await run(host, sys.executable, "-c", program)
    assert out.splitlines() == ["200 localhost,127.0.0.1,::1", "ledger hello 127.0.0.1:"]
    assert code == 7
    assert not list(host.state.glob("sidecars/*-web-*/envoy.json"))


async def test_run_passes_signals_on(host: Host) -> None:
    program = "import time; print('up', flush=True); time.sleep(60)"
    process = await host.mesh("run", "--service", "web", "--", sys.executable, "-c", program)
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE):
        assert await process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 128 + signal.SIGTERM


async def test_run_says_what_it_cannot_run(host: Host) -> None:
    assert (await run(host, "no-such-program"))[0] == 127
    file = host.folder / "not-a-program"
    file.write_text("?")
    file.chmod(0o755)
    assert (await run(host, str(file)))[0] == 126
