"""What etcd goes through: its leader, its quorum, its disk, its past."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess

from mesh.errors import MeshError, OutOfSpace
from mesh.planning import keyspace
from mesh.ports import Put, Transaction
from tests.faults.bed import LASTING, Bed
from tests.faults.catalogue import fault
from tests.support.servers import require

KILLS = int(os.environ.get("MESH_FAULT_KILLS", "100"))
ROUNDS = int(os.environ.get("MESH_FAULT_ROUNDS", "100"))
WRITES = 1000


@fault("etcd-leader-killed", "etcd's leader: kill -9, started again after 10 s")
async def leader_killed(bed: Bed) -> str:
    leader = bed.etcd.members[bed.etcd.leader()]
    bed.fault()
    leader.kill()
    healed = await bed.healed()
    await bed.sleep(max(0.0, 10 - (healed - bed.began)))
    leader.start()
    await asyncio.to_thread(leader.wait_ready)
    bed.notice_from_logs()
    first = healed - bed.began
    bed.mended()
    return f"without it: a commit runs everywhere after {first:.1f} s"


@fault("etcd-leader-frozen", "etcd's leader: frozen (SIGSTOP) for 20 s")
async def leader_frozen(bed: Bed) -> str:
    leader = bed.etcd.members[bed.etcd.leader()]
    bed.fault()
    leader.signal(signal.SIGSTOP)
    healed = await bed.healed()
    await bed.sleep(max(0.0, 20 - (healed - bed.began)))
    leader.signal(signal.SIGCONT)
    bed.notice_from_logs()
    bed.mended()
    return f"without it: a commit runs everywhere after {healed - bed.began:.1f} s"


@fault("etcd-leader-cut", "etcd's leader: cut off for 20 s, packets vanish", needs_wires=True)
async def leader_cut(bed: Bed) -> str:
    assert bed.wires is not None
    site = bed.etcd.sites[bed.etcd.leader()]
    bed.fault()
    bed.wires.cut(site)
    healed = await bed.healed()
    await bed.sleep(max(0.0, 20 - (healed - bed.began)))
    bed.wires.mend(site)
    bed.notice_from_logs()
    bed.mended()
    return f"without it: a commit runs everywhere after {healed - bed.began:.1f} s"


@fault("etcd-quorum-lost", f"etcd's quorum lost for {LASTING:.0f} s (two of three killed)")
async def quorum_lost(bed: Bed) -> str:
    bed.fault()
    for member in bed.etcd.members[:2]:
        member.kill()
    await bed.sleep(bed.lasting)
    bed.notice_from_logs()
    for member in bed.etcd.members[:2]:
        member.start()
    for member in bed.etcd.members[:2]:
        await asyncio.to_thread(member.wait_ready)
    bed.mended()
    return ""


@fault("etcd-stalled", f"all of etcd frozen for {LASTING:.0f} s: no reset, no answer (B30)")
async def stalled(bed: Bed) -> str:
    bed.fault()
    for member in bed.etcd.members:
        member.signal(signal.SIGSTOP)
    await bed.sleep(bed.lasting)
    bed.notice_from_logs()
    for member in bed.etcd.members:
        member.signal(signal.SIGCONT)
    bed.mended()
    return ""


@fault("etcd-member-wiped", "an etcd member: its disk lost, replaced by a new one")
async def member_wiped(bed: Bed) -> str:
    etcd = bed.etcd
    at = etcd.leader()
    bed.fault()
    etcd.members[at].kill()
    shutil.rmtree(etcd.data(at))
    others = [n for n in range(3) if n != at]
    await bed.healed()
    identity = etcd.member_id_from(others[0], at)
    etcd.ctl("member", "remove", identity, at=others[0])
    while True:  # etcd refuses until the others have been connected for a few seconds
        try:
            etcd.ctl("member", "add", f"m{at}", f"--peer-urls={etcd.peers[at]}", at=others[0])
            break
        except OSError as error:
            if bed.elapsed() > 30 or "unhealthy cluster" not in str(error):
                raise
            await bed.sleep(0.5)
    fresh = etcd.replaced(at)
    fresh.start()
    await asyncio.to_thread(fresh.wait_ready)
    bed.notice_from_logs()
    bed.mended()
    return ""


@fault("etcd-compaction", f"{WRITES} writes and a compaction while an agent sleeps (B21)")
async def compaction(bed: Bed) -> str:
    web = bed.sidecars["web-1"]
    bed.is_writing = False
    took: list[float] = []
    for _ in range(ROUNDS):
        bed.fault()
        os.kill(web.process.pid, signal.SIGSTOP)
        await _storm(bed)
        revision = await bed.commit()
        bed.etcd.ctl("compact", str(bed.etcd.revision()))
        os.kill(web.process.pid, signal.SIGCONT)
        bed.mended()
        woken = asyncio.get_running_loop().time()
        await bed.until_status(
            lambda m, r=revision: m.status.id == "web-1" and m.status.revision >= r
        )
        took.append(asyncio.get_running_loop().time() - woken)
    bed.mended()
    took.sort()
    return (
        f"{ROUNDS} rounds; the exact state after the wake: median {took[len(took) // 2]:.2f} s, "
        f"worst {took[-1]:.2f} s"
    )


async def _storm(bed: Bed) -> None:
    """Writes of the watched key itself, with the content that it has."""
    found = (await bed.store.fetch([keyspace.HEAD]))[keyspace.HEAD]
    value = json.loads(found.value)
    for number in range(WRITES):
        value["revision"]["message"] = f"write {number}"
        data = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
        await bed.store.commit(Transaction(puts=(Put(keyspace.HEAD, data),)))


@fault(
    "etcd-disk-full",
    "etcd out of space (NOSPACE), freed after 15 s",
    etcd_extra=("--quota-backend-bytes=4194304",),
)
async def disk_full(bed: Bed) -> str:
    bed.fault()
    size = 0
    with contextlib.suppress(OutOfSpace):
        while size < 64:
            await bed.store.commit(Transaction(puts=(Put(f"filler/{size}", b"x" * 900_000),)))
            size += 1
    refused = ""
    try:
        await bed.commit()
    except OutOfSpace as error:
        refused = error.message.split(": ", 1)[-1]
        bed.notice()
    except MeshError as error:
        refused = error.message
    await bed.sleep(15)
    await bed.store.commit(Transaction(deletes=tuple(f"filler/{n}" for n in range(size))))
    bed.etcd.ctl("compact", str(bed.etcd.revision()))
    for at in range(3):
        bed.etcd.ctl("defrag", at=at)
    bed.etcd.ctl("alarm", "disarm")
    bed.mended()
    return f'commits meanwhile: "{refused}"'


@fault("etcd-restored", "etcd restored from a snapshot older than head")
async def restored(bed: Bed) -> str:
    snapshot = bed.folder / "snapshot.db"
    bed.etcd.ctl("snapshot", "save", str(snapshot), at=0)
    for _ in range(5):
        await bed.commit()
    bed.is_writing = False
    await bed.healed()
    before = len(bed.acknowledged)
    for member in bed.etcd.members:
        member.kill()
    for at in range(3):
        shutil.rmtree(bed.etcd.data(at))
        _restore(bed, at, str(snapshot))
    bed.etcd.start()
    bed.fault()
    await bed.until_status(lambda m: "went back" in (m.status.stale or ""))
    bed.notice()
    await bed.sleep(3)
    policies = str(bed.folder / "policies.yaml")
    doctor = await bed.mesh("doctor", "--output", "json")
    refusal = await bed.mesh("apply", policies, "--yes", "--output", "json")
    assert json.loads(refusal.stdout)["error"]["code"] == "head-went-back", refusal.stdout
    assert "the store went back" in doctor.stdout, doctor.stdout
    held = {m.status.revision for m in await bed.members()}
    bed.mended()
    revision = await bed.commit(accept_restore=True)
    # What the backup lacks is lost to the store: that is what a person accepted.
    bed.acknowledged = bed.acknowledged[before:]
    bed.is_writing = True
    return (
        f"sidecars kept revision {max(held)} and said so, `apply` refused; with --accept-restore "
        f"revision {revision} went to all"
    )


def _restore(bed: Bed, at: int, snapshot: str) -> None:
    cluster = ",".join(f"m{n}={url}" for n, url in enumerate(bed.etcd.peers))
    command = [
        require("etcd").with_name("etcdctl"),
        *("snapshot", "restore", snapshot, f"--name=m{at}", f"--data-dir={bed.etcd.data(at)}"),
        *(f"--initial-cluster={cluster}", f"--initial-advertise-peer-urls={bed.etcd.peers[at]}"),
    ]
    subprocess.run(
        command,
        env={"ETCDCTL_API": "3", "PATH": os.environ.get("PATH", "")},
        capture_output=True,
        check=True,
    )


@fault("etcd-killed-often", f"etcd's members killed {KILLS} times under writes (B20)")
async def killed_often(bed: Bed) -> str:
    took: list[float] = []
    lost = 0
    bed.fault()
    for number in range(KILLS):
        # Every fourth time two at once: no quorum until they are back.
        victims = [number % 3] if number % 4 else [number % 3, (number + 1) % 3]
        for at in victims:
            bed.etcd.members[at].kill()
        with contextlib.suppress(MeshError, TimeoutError):
            async with asyncio.timeout(0.3):
                await bed.commit()
        for at in victims:
            bed.etcd.members[at].start()
        for at in victims:
            await asyncio.to_thread(bed.etcd.members[at].wait_ready)
        back = asyncio.get_running_loop().time()
        while True:
            try:
                await bed.commit()
                break
            except MeshError:
                continue
        took.append(asyncio.get_running_loop().time() - back)
        lost += await _missing(bed)
    bed.mended()
    took.sort()
    assert lost == 0, f"{lost} acknowledged commits are missing"
    return (
        f"back to the next acknowledged commit: median {took[len(took) // 2]:.2f} s, "
        f"worst {took[-1]:.2f} s"
    )


async def _missing(bed: Bed) -> int:
    while True:
        with contextlib.suppress(MeshError):  # the members may still be at their election
            return await bed.missing()
