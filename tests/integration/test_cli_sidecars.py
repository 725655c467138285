"""apply, plan and status with real sidecars: who runs what, by name."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.mesh_host import DEADLINE, Host
from tests.support.operations import access, service, write


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    async with Host() as host:
        write(host.folder / "p", a=service("api"), b=access("api", "web"), c=service("web"))
        assert (await mesh(host, "apply", str(host.folder / "p"), "--yes"))[0] == 0
        yield host


async def mesh(host: Host, *arguments: str) -> tuple[int, Any]:
    """Run a command; its exit code and what it said as JSON."""
    process = await host.mesh(*arguments, "--output", "json")
    async with asyncio.timeout(DEADLINE):
        out, _ = await process.communicate()
    return process.returncode or 0, json.loads(out)


async def test_apply_waits_for_the_sidecars_it_concerns_and_names_them(host: Host) -> None:
    app = host.apps("api")["api"]
    api = await host.spawn("api", app)
    web = await host.start("web")
    other = await host.start("other")
    folder = write(host.folder / "p", b=access("api", "web", "GET, POST"))
    _, plan = await mesh(host, "plan", folder)
    concerned = sorted([api.ready["id"], web.ready.id])
    assert [item["id"] for item in plan["impact"]["sidecars"]] == concerned
    assert plan["impact"]["live"] == 3
    code, applied = await mesh(host, "apply", folder, "--yes")
    assert code == 0
    assert applied["sidecars"]["accepted"] == 2
    assert applied["sidecars"]["names"]["accepted"] == concerned
    _, status = await mesh(host, "status")
    assert status["head"] == 2
    found = {item["id"]: item for item in status["sidecars"]}
    assert {found[id]["state"] for id in concerned} == {"in-sync"}
    mine = found[api.ready["id"]]
    assert (mine["inbound"], mine["outbound"]) == (api.ready["inbound"], api.ready["outbound"])
    assert mine["certificate"]["not_after"]
    assert found[other.ready.id]["service"] == "other"


async def test_a_frozen_agent_is_pending_by_name_and_the_exit_code_says_so(host: Host) -> None:
    api = await host.spawn("api", host.apps("api")["api"])
    api.process.send_signal(signal.SIGSTOP)
    try:
        folder = write(host.folder / "p", b=access("api", "web", "POST"))
        code, applied = await mesh(host, "apply", folder, "--yes", "--timeout", "500ms")
        assert code == 4
        assert applied["revision"] == 2
        assert applied["sidecars"]["names"]["pending"] == [api.ready["id"]]
        assert applied["error"]["code"] == "not-accepted"
        _, status = await mesh(host, "status")
        assert [item["state"] for item in status["sidecars"]] == ["pending"]
    finally:
        api.process.send_signal(signal.SIGCONT)
    await host.status(api.ready["id"], lambda found: found.revision == 2)
