"""What hosts go through: cut off, frozen, killed, with a wrong clock, without their CA."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from mesh.planning import keyspace
from mesh.sidecar.waiting import closing
from tests.faults.bed import Bed
from tests.faults.catalogue import fault

CUT = 20.0
HOUR = 3600


@fault("host-cut", "one of two hosts of api: cut off both ways for 20 s", needs_wires=True)
async def cut(bed: Bed) -> str:
    assert bed.wires is not None
    bed.fault()
    bed.wires.cut(bed.sidecars["api-2"].site)
    await bed.sleep(CUT)
    bed.wires.mend(bed.sidecars["api-2"].site)
    bed.notice_from_logs()
    bed.mended()
    return ""


@fault("host-mute", "one of two hosts of api: hears all, what it sends is lost", needs_wires=True)
async def mute(bed: Bed) -> str:
    assert bed.wires is not None
    site = bed.sidecars["api-2"].site
    others = [one.address for one in bed.etcd.sites]
    others.append(bed.sidecars["web-1"].site.address)
    bed.fault()
    bed.wires.mute(site, others)
    await bed.sleep(CUT)
    bed.wires.unmute(site, others)
    bed.notice_from_logs()
    bed.mended()
    return "for 20 s"


@fault(
    "caller-cut-from-etcd", "the caller's host: what etcd sends it is lost, 20 s", needs_wires=True
)
async def one_way(bed: Bed) -> str:
    assert bed.wires is not None
    caller = bed.sidecars["web-1"].site
    bed.fault()
    for site in bed.etcd.sites:
        bed.wires.mute(site, [caller.address])
    await bed.sleep(CUT)
    for site in bed.etcd.sites:
        bed.wires.unmute(site, [caller.address])
    bed.notice_from_logs()
    bed.mended()
    return "B30"


@fault(
    "host-frozen", "one of two hosts of api: frozen (agent, Envoy, application), thawed after 20 s"
)
async def frozen(bed: Bed) -> str:
    bed.fault()
    bed.sidecars["api-2"].signal(signal.SIGSTOP)
    await bed.sleep(CUT)
    bed.sidecars["api-2"].signal(signal.SIGCONT)
    bed.notice_from_logs()
    bed.mended()
    return ""


@fault("host-killed", "one of five hosts of api: everything on it kill -9 (B25)", apis=5)
async def killed(bed: Bed) -> str:
    victim = bed.sidecars["api-3"]
    port = int(str(victim.ready["inbound"]).rsplit(":", 1)[1])
    bed.fault()
    victim.signal(signal.SIGKILL)
    gone = await _gone_after_event(bed, victim.id, port)
    del bed.sidecars["api-3"]
    for process in (victim.process, victim.app):
        assert process is not None
        process.communicate()
    return f"out of use {1000 * gone:.0f} ms after discovery's event"


async def _gone_after_event(bed: Bed, id: str, port: int) -> float:
    """Seconds from the event (its lease ran out) until the caller's Envoy has it degraded."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(60):
        async with closing(bed.store.watch(keyspace.INSTANCES)) as states:
            async for watched in states:
                keys = [k for k in watched.entries if f"/{id}/{keyspace.ALIVE}" in k]
                if not keys and watched.lost is None:
                    break
    event = loop.time()
    while not await asyncio.to_thread(_is_degraded, bed, port):
        await bed.sleep(0.005)
    return loop.time() - event


def _is_degraded(bed: Bed, port: int) -> bool:
    """Whether the caller's Envoy uses the endpoint only in need."""
    folder = bed.folder / "state" / "sidecars" / "web-1"
    sockets = list(folder.glob("admin.sock"))
    assert sockets, f"no admin socket in {folder}"
    listed = _unix(str(sockets[0]), "/clusters?format=json")
    for cluster in json.loads(listed)["cluster_statuses"]:
        for host in cluster.get("host_statuses", ()):
            if host["address"].get("socket_address", {}).get("port_value") == port:
                return int(host.get("priority", 0)) > 0
    return True


def _unix(socket: str, path: str) -> bytes:
    done = subprocess.run(
        ["curl", "-s", "--unix-socket", socket, f"http://envoy{path}"],
        capture_output=True,
        check=True,
        timeout=10,
    )
    return done.stdout


@fault("application-killed", "the application of one of two hosts: kill -9, back after 10 s")
async def application_killed(bed: Bed) -> str:
    victim = bed.sidecars["api-2"]
    assert victim.app is not None
    port = victim.app.args[-1]  # type: ignore[index]
    bed.fault()
    victim.app.kill()
    victim.app.wait()
    await bed.sleep(10)
    victim.app = bed.launch_app(victim.site, int(port))
    bed.mended()
    return ""


def _clock_library() -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise OSError("no C compiler")
    folder = Path(tempfile.gettempdir()) / f"mesh-clock-{os.getpid()}"
    folder.mkdir(exist_ok=True)
    library = folder / "clock.so"
    source = Path(__file__).with_name("clock.c")
    flags = ("-shared", "-fPIC", "-O2", "-o", str(library))
    subprocess.run([compiler, *flags, str(source)], check=True)
    (folder / "shift").write_text("0")
    return library


def _shifted() -> dict[str, dict[str, str]]:
    library = _clock_library()
    settings = {"LD_PRELOAD": str(library), "SHIFTED_CLOCK": str(library.with_name("shift"))}
    return {"api-2": settings}


@fault("clock-shifted", "a host's clock an hour ahead, then an hour behind", environment=_shifted)
async def clock_shifted(bed: Bed) -> str:
    file = Path(bed.extra_environment["api-2"]["SHIFTED_CLOCK"])
    bed.fault()
    said = []
    for seconds in (HOUR, -HOUR):
        await asyncio.to_thread(file.write_text, str(seconds))
        await bed.sleep(8)
        await bed.healed()
        doctor = await bed.mesh("doctor", "--output", "json")
        found = [f for f in json.loads(doctor.stdout)["findings"] if f["check"] == "clock"]
        said += [f["message"] for f in found if f["level"] != "ok"]
    if said:
        bed.notice()
    await asyncio.to_thread(file.write_text, "0")
    bed.mended()
    return "agent and Envoy; doctor: " + ("; ".join(said) or "nothing")


@fault(
    "ca-down", "the CA service killed over everybody's renewal, 45 s", with_ca=True, lifetime="60s"
)
async def ca_down(bed: Bed) -> str:
    assert bed.ca is not None
    bed.fault()
    bed.ca.kill()
    bed.ca.communicate()
    await bed.sleep(45)
    bed.notice_from_logs()
    await bed.start_ca()
    bed.mended()
    return "certificates of 60 s; all renewed afterwards"


@fault("agents-killed", "all agents kill -9; others take over after 10 s, their Envoys serve on")
async def agents_killed(bed: Bed) -> str:
    envoys = {name: one.envoy for name, one in bed.sidecars.items()}
    bed.fault()
    for one in bed.sidecars.values():
        one.process.kill()
        one.process.communicate()
    await bed.sleep(10)
    bed.mended()
    for name in list(bed.sidecars):
        old = bed.sidecars[name]
        app = int(old.app.args[-1]) if old.app else 0  # type: ignore[index]
        bed.launch(name, name.split("-")[0], old.site, app)
    for one in bed.sidecars.values():
        await bed.wait_ready(one)
    assert envoys == {name: one.envoy for name, one in bed.sidecars.items()}
    return "adopted"
