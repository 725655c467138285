"""The etcd store's parts that need no server."""

import os
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from mesh.adapters.clock import SystemClock
from mesh.adapters.etcd import EtcdSettings, EtcdStore, is_sound
from mesh.adapters.etcd.diagnosis import tls_context
from mesh.adapters.etcd.ranges import range_of
from mesh.errors import Denied
from mesh.ports import Store
from tests.support.tls import Authority


@pytest.mark.parametrize(
    ("version", "sound"),
    [
        ("3.3.27", False),
        ("3.4.22", False),
        ("3.4.23", True),
        ("3.4.30", True),
        ("3.5.0", False),
        ("3.5.12", False),
        ("3.5.13", True),
        ("3.5.30", True),
        ("3.6.0", True),
        ("3.6.0-rc.1", True),
        ("4.0.1", True),
        ("2.3.8", False),
        ("not a version", False),
    ],
)
def test_versions_with_known_faults_are_told_from_sound_ones(version: str, sound: bool) -> None:
    assert is_sound(version) is sound


@pytest.mark.parametrize("prefix", ["mesh", "/mesh", "mesh/", "/mesh/", ""])
def test_keys_lie_below_the_prefix_and_one_slash(prefix: str) -> None:
    assert EtcdSettings(endpoints=("h:1",), prefix=prefix).base == b"mesh/"


def test_a_range_ends_before_the_next_sibling() -> None:
    assert range_of(b"mesh/", "") == (b"mesh/", b"mesh0")
    assert range_of(b"mesh/", "a/") == (b"mesh/a/", b"mesh/a0")
    start, end = range_of(b"mesh/", "\U0010ffff")
    assert start <= "mesh/\U0010ffff\U0010ffff".encode() < end


async def test_it_is_a_store() -> None:
    store: Store = EtcdStore(EtcdSettings(endpoints=("127.0.0.1:1",)), clock=SystemClock())
    with pytest.raises(RuntimeError, match="async with"):
        await store.scan("")


def test_without_any_file_there_is_no_tls() -> None:
    assert tls_context(EtcdSettings(endpoints=("h:1",))) is None


def test_a_client_certificate_alone_means_tls_with_the_machines_roots(tmp_path: Path) -> None:
    files = Authority(tmp_path).issue("client")
    settings = EtcdSettings(endpoints=("h:1",), cert=files.cert, key=files.key)
    context = tls_context(settings)
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED


def test_a_ca_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    settings = EtcdSettings(endpoints=("h:1",), cacert=path)
    with pytest.raises(Denied, match=r"ca\.pem.*No such file"):
        tls_context(settings)
    path.write_text("no certificate")
    with pytest.raises(Denied, match=r"ca\.pem"):
        tls_context(settings)


def test_importing_it_leaves_the_environment_alone() -> None:
    script = "import os; before = dict(os.environ); import mesh.adapters.etcd; "
    environment = {k: v for k, v in os.environ.items() if k != "GRPC_VERBOSITY"}
    subprocess.run(
        [sys.executable, "-c", script + "assert before == dict(os.environ)"],
        check=True,
        env=environment,
    )


def test_grpc_writes_nothing_of_its_own_to_standard_error() -> None:
    script = """
import asyncio
from datetime import timedelta
from mesh.adapters.clock import SystemClock
from mesh.adapters.etcd import EtcdSettings, EtcdStore
from mesh.errors import Unavailable

async def main():
    settings = EtcdSettings(endpoints=("127.0.0.1:1",), timeout=timedelta(seconds=0.5))
    try:
        await EtcdStore(settings, clock=SystemClock()).__aenter__()
    except Unavailable:
        print("unavailable")

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("unavailable\n", "")
