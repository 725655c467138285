"""A store on etcds of a test, and etcd's own command line."""

import subprocess
from datetime import timedelta

import pytest

from mesh.adapters.clock import SystemClock
from mesh.adapters.etcd import EtcdSettings, EtcdStore
from tests.support.servers import Server, require


def store_of(*servers: Server, timeout: float = 2.0) -> EtcdStore:
    endpoints = tuple(server.endpoint for server in servers)
    settings = EtcdSettings(endpoints=endpoints, timeout=timedelta(seconds=timeout))
    return EtcdStore(settings, clock=SystemClock())


def etcdctl(server: Server, *arguments: str) -> str:
    program = require("etcd").with_name("etcdctl")
    if not program.exists():
        pytest.skip("etcdctl is not installed beside etcd; run: make servers")
    done = subprocess.run(
        [program, f"--endpoints={server.endpoint}", *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        env={"ETCDCTL_API": "3"},
    )
    return done.stdout
