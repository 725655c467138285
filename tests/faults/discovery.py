"""What Consul goes through: its leader, the agent beside the sidecars, a wrong word of command."""

import asyncio
import json
import urllib.request

from tests.faults.bed import Bed
from tests.faults.catalogue import fault

WAIT = 15.0


@fault(
    "consul-leader-killed", "Consul's leader: kill -9, started again after 15 s", with_consul=True
)
async def leader_killed(bed: Bed) -> str:
    assert bed.consul is not None
    leader = await asyncio.to_thread(bed.consul.leader)
    bed.fault()
    leader.kill()
    await bed.sleep(WAIT)
    leader.start()
    await asyncio.to_thread(leader.wait_ready)
    bed.notice_from_logs()
    bed.mended()
    return ""


@fault(
    "consul-client-killed", "the host's Consul agent: kill -9, back after 15 s", with_consul=True
)
async def client_killed(bed: Bed) -> str:
    assert bed.consul is not None
    bed.fault()
    bed.consul.client.kill()
    await bed.sleep(WAIT)
    bed.consul.client.start()
    await asyncio.to_thread(bed.consul.client.wait_ready)
    bed.notice_from_logs()
    bed.mended()
    return ""


@fault("consul-emptied", "Consul's catalog emptied by an operator's mistake", with_consul=True)
async def emptied(bed: Bed) -> str:
    assert bed.consul is not None
    bed.fault()
    await asyncio.to_thread(_put, bed, "/v1/catalog/deregister", {"Node": "c3"})
    before = bed.load.answers.total()
    back = None
    while back is None:
        if await asyncio.to_thread(_instances, bed) == bed.apis:
            back = bed.elapsed()
        await bed.sleep(0.05)
    bed.notice_from_logs()
    count = bed.load.answers.total() - before
    return f"registered again after {back:.1f} s, {count} requests meanwhile"


def _put(bed: Bed, path: str, body: object) -> None:
    assert bed.consul is not None
    url = f"http://{bed.consul.client.endpoint}{path}"
    request = urllib.request.Request(url, json.dumps(body).encode(), method="PUT")
    with urllib.request.urlopen(request, timeout=5) as answer:
        answer.read()


def _instances(bed: Bed) -> int:
    assert bed.consul is not None
    url = f"http://{bed.consul.client.endpoint}/v1/health/service/api?passing"
    with urllib.request.urlopen(url, timeout=5) as answer:
        return len(json.loads(answer.read()))
