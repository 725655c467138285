"""A store on etcds of a test, and etcd's own command line."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from mesh.adapters.clock import SystemClock
from mesh.adapters.etcd import EtcdSettings, EtcdStore
from mesh.ports import Watched
from tests.support.servers import Server, require
from tests.support.tls import TLSFiles

PATIENCE_SECONDS = 30.0


def store_of(*servers: Server, timeout: float = 2.0) -> EtcdStore:
    endpoints = tuple(server.endpoint for server in servers)
    settings = EtcdSettings(endpoints=endpoints, timeout=timedelta(seconds=timeout))
    return EtcdStore(settings, clock=SystemClock())


def etcdctl(server: Server, *arguments: str, tls: TLSFiles | None = None) -> str:
    program = require("etcd").with_name("etcdctl")
    if not program.exists():
        pytest.skip("etcdctl is not installed beside etcd; run: make servers")
    done = subprocess.run(
        [program, *_reached(server, tls), *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        env={"ETCDCTL_API": "3"},
    )
    return done.stdout


def _reached(server: Server, tls: TLSFiles | None) -> list[str]:
    if tls is None:
        return [f"--endpoints={server.endpoint}"]
    files = [f"--cacert={tls.ca}", f"--cert={tls.cert}", f"--key={tls.key}"]
    return [f"--endpoints=https://{server.endpoint}", *files]


async def lost(states: AsyncIterator[Watched]) -> Watched:
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for state in states:
            if state.lost is not None:
                return state
    raise AssertionError


async def until(states: AsyncIterator[Watched], **wanted: str) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for state in states:
            if (
                state.lost is None
                and {key: entry.value.decode() for key, entry in state.entries.items()} == wanted
            ):
                return
