"""What may be wrong with a host and a mesh, each finding with what to do about it."""

import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

from mesh.model.policy import Address
from mesh.model.status import SidecarState
from mesh.operations.restored import HINT, newest_run
from mesh.operations.sidecars import Member
from mesh.sockets import is_free

MIN_FREE_BYTES = 256 * 1024 * 1024
# Certificates are renewed at half to two thirds of their life; this one was not.
MIN_LEFT = timedelta(hours=1)
MAX_SKEW = timedelta(seconds=5)
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check: `hint` says what to do unless all is well."""

    check: str
    level: Level
    message: str
    hint: str = ""

    @property
    def is_error(self) -> bool:
        """Whether the mesh cannot work like this."""
        return self.level is Level.ERROR


def check_state(state: Path) -> Iterator[Finding]:
    """The folder of this host's files: whose it is, who may read it, whether it has room."""
    try:
        status = state.stat()
    except FileNotFoundError:
        yield _creatable(state)
        return
    except OSError as error:
        yield Finding("state", Level.ERROR, f'"{state}": {error.strerror}', "set MESH_STATE")
        return
    if not os.access(state, os.W_OK | os.X_OK):
        hint = "run as its owner, or set MESH_STATE to a folder of yours"
        yield Finding("state", Level.ERROR, f'"{state}" is not writable', hint)
    elif status.st_mode & _OTHERS:
        message = f'"{state}" is open to other users ({stat.filemode(status.st_mode)})'
        yield Finding("state", Level.ERROR, message, f"chmod 700 {state}")
    else:
        yield Finding("state", Level.OK, f'"{state}" is private and writable')
    yield _room(state)


def check_ports(addresses: Iterable[Address], members: Iterable[Member]) -> Iterator[Finding]:
    """Whether the default addresses are free, or a sidecar's own."""
    ours = {
        address.port
        for member in members
        if member.is_alive
        for address in (member.status.inbound, member.status.outbound)
        if address is not None
    }
    for address in addresses:
        where = f"{address.address}:{address.port}"
        if address.port in ours:
            yield Finding("ports", Level.OK, f"{where} is a sidecar's")
        elif is_free(address):
            yield Finding("ports", Level.OK, f"{where} is free")
        else:
            hint = (
                f"find who listens (ss -ltnp sport = :{address.port}), or give the sidecar others"
            )
            yield Finding("ports", Level.WARNING, f"{where} is in use by another program", hint)


def check_head(members: Iterable[Member], head: int) -> Iterator[Finding]:
    """Whether the store is older than what sidecars run; read `members` before `head`."""
    newest = newest_run(members)
    if newest > head:
        message = f"head is revision {head}, but sidecars run {newest}: the store went back"
        yield Finding("head", Level.ERROR, message, HINT)


def check_sidecars(members: Iterable[Member], head: int, now: datetime) -> Iterator[Finding]:
    """Sidecars that are not in sync, and certificates that were not renewed."""
    count = 0
    for member in members:
        count += 1
        yield from _check_sidecar(member, head)
        if member.is_alive and member.status.upgrade:
            message = f"{member.status.id}: {member.status.upgrade}"
            hint = "one instance after the other: systemctl reload, or SIGHUP to the agent"
            yield Finding("upgrade", Level.WARNING, message, hint)
        yield from _check_certificate(member, now)
    if not count:
        yield Finding("sidecars", Level.OK, "none runs")


def check_clock(members: Iterable[Member], committed: datetime | None, now: datetime) -> Finding:
    """Whether this clock is behind what others wrote already."""
    seen = [member.status.time for member in members if member.is_alive]
    seen += [committed] if committed is not None else []
    ahead = max((moment - now for moment in seen), default=timedelta())
    if ahead > MAX_SKEW:
        seconds = ahead.total_seconds()
        message = f"this clock is {seconds:.0f} s behind what another host wrote"
        return Finding("clock", Level.ERROR, message, "run a time service (chrony, timesyncd)")
    return Finding("clock", Level.OK, "agrees with what others wrote")


def _check_sidecar(member: Member, head: int) -> Iterator[Finding]:
    status = member.status
    match member.state(head):
        case SidecarState.IN_SYNC:
            yield Finding("sidecars", Level.OK, f"{status.id} runs revision {status.revision}")
        case SidecarState.PENDING:
            message = f"{status.id} runs revision {status.revision}, head is {head}"
            yield Finding("sidecars", Level.WARNING, message, "wait; its log says what it does")
        case SidecarState.REJECTED:
            hint = "mend the document that it names and apply, or `mesh rollback`"
            yield Finding("sidecars", Level.ERROR, f"{status.id}: {member.message}", hint)
        case SidecarState.STALE:
            hint = "start it again, or see why it does not reach its servers"
            yield Finding("sidecars", Level.WARNING, f"{status.id}: {member.message}", hint)
    if member.app_trouble:
        hint = "start it, or give the sidecar its address (--app); until then callers get 503"
        yield Finding("applications", Level.WARNING, f"{status.id}: {member.app_trouble}", hint)


def _check_certificate(member: Member, now: datetime) -> Iterator[Finding]:
    expiry = member.status.certificate_not_after
    if expiry is None or not member.is_alive:
        return
    hint = "see `mesh ca status` and the sidecar's log: it could not renew"
    if expiry <= now:
        message = f"{member.status.id}: expired {expiry:%Y-%m-%d %H:%M}Z"
        yield Finding("certificates", Level.ERROR, message, hint)
    elif expiry - now < MIN_LEFT:
        left = int((expiry - now).total_seconds())
        message = f"{member.status.id}: expires in {left} s"
        yield Finding("certificates", Level.WARNING, message, hint)
    else:
        message = f"{member.status.id}: until {expiry:%Y-%m-%d %H:%M}Z"
        yield Finding("certificates", Level.OK, message)


def _creatable(state: Path) -> Finding:
    parent = next(folder for folder in state.parents if folder.exists())
    if os.access(parent, os.W_OK | os.X_OK):
        return Finding("state", Level.OK, f'"{state}" will be made on first use')
    message = f'"{state}" is not there and cannot be made'
    return Finding("state", Level.ERROR, message, "set MESH_STATE to a folder of yours")


def _room(state: Path) -> Finding:
    free = shutil.disk_usage(state).free
    mebibytes = free // 2**20
    if free < MIN_FREE_BYTES:
        message = f"{mebibytes} MiB are free on the disk of the state folder"
        return Finding("disk", Level.WARNING, message, "free some space")
    return Finding("disk", Level.OK, f"{mebibytes} MiB are free")
