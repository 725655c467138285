"""A sidecar's command line, parsed: each wrong word is a UsageError that names its flag."""

import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import combinations
from pathlib import Path

from mesh.documents.fields import span
from mesh.errors import UsageError
from mesh.model.identity import ServiceName
from mesh.model.policy import Address
from mesh.sidecar.options import DRAIN, INBOUND, OUTBOUND, SidecarOptions

FREE_INBOUND = "0.0.0.0:0"  # peers on other hosts call it
FREE_OUTBOUND = "127.0.0.1:0"
LOOPBACK = "127.0.0.1"
MAX_PORT = 65535
_EVERYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104 (compared with, not listened on)

# RFC 1123 labels, as the documents' names.
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_DURATION = re.compile(r"(?:[0-9]{1,5}(?:ms|s|m|h)){1,4}")
# An id is a folder's and a key's name.
_ID = re.compile(r"[A-Za-z0-9]([-._A-Za-z0-9]{0,126}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The flags of `sidecar` and `run` as they were typed; None is "not given"."""

    service: str
    namespace: str
    app: str | None
    inbound: str | None
    outbound: str | None
    meta: Sequence[str]
    tags: Sequence[str]
    id: str | None
    upstreams: Sequence[str]
    advertise: str | None
    metrics: str | None = None
    drain: str | None = None

    def options(self, state: Path) -> SidecarOptions:
        """What they mean. Names of hosts are looked up.

        Raises:
            UsageError: one of them is wrong.
        """
        if self.id is not None and not _ID.fullmatch(self.id):
            raise UsageError(f'--id: "{self.id}" is no id', "use letters, digits, -, _ and .")
        options = SidecarOptions(
            service=ServiceName(
                label(self.namespace, "--namespace"), label(self.service, "--service")
            ),
            state=state,
            app=None if self.app is None else address(self.app, "--app", free=False),
            inbound=INBOUND if self.inbound is None else address(self.inbound, "--inbound"),
            outbound=OUTBOUND if self.outbound is None else address(self.outbound, "--outbound"),
            upstreams=dict(upstream(text, self.namespace) for text in self.upstreams),
            advertise=None if self.advertise is None else host(self.advertise, "--advertise"),
            meta=dict(pair(text) for text in self.meta),
            tags=frozenset(self.tags),
            id=self.id,
            metrics=None if self.metrics is None else address(self.metrics, "--metrics"),
            drain=DRAIN if self.drain is None else pause(self.drain, "--drain"),
        )
        _check_ports(options)
        return options


def _check_ports(options: SidecarOptions) -> None:
    """Refuse two flags with one address: who came second could not listen."""
    given = [("--outbound", options.outbound), ("--metrics", options.metrics)]
    given += [("--inbound", options.inbound)] if options.app else []
    given += [("--app", options.app)]
    given += [("--upstream", pin) for pin in options.upstreams.values()]
    fixed = [(flag, place) for flag, place in given if place is not None and place.port]
    for (first, one), (second, other) in combinations(fixed, 2):
        everywhere = _EVERYWHERE.intersection((one.address, other.address))
        if one.port == other.port and (one.address == other.address or everywhere):
            message = f"{first} and {second} have one address, port {one.port}"
            raise UsageError(message, "give each a port of its own")


def label(text: str, flag: str) -> str:
    """A name of a service or namespace."""
    if not _LABEL.fullmatch(text):
        raise UsageError(
            f'{flag}: "{text}" is no name', "use lower-case letters, digits and -, at most 63"
        )
    return text


def address(text: str, flag: str, *, free: bool = True) -> Address:
    """`HOST:PORT`, an IPv6 host in brackets; port 0 only where `free`."""
    name, separator, port = text.rpartition(":")
    if not separator or not name:
        raise UsageError(f'{flag}: "{text}" is no HOST:PORT', f"write {flag} 127.0.0.1:8080")
    return Address(host(name, flag), _port(port, flag, free=free))


def host(text: str, flag: str) -> str:
    """An IP address, or that of a host's name."""
    bare = text.removeprefix("[").removesuffix("]")
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(bare, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UsageError(f'{flag}: the host "{text}" is unknown: {error}') from error
    # IPv4 first: what listens on a name such as localhost mostly listens there.
    addresses = sorted(found, key=lambda item: item[0] is not socket.AF_INET)
    return str(addresses[0][4][0])


def pause(text: str, flag: str) -> timedelta:
    """A duration, `0s` too."""
    if not _DURATION.fullmatch(text):
        raise UsageError(f'{flag}: "{text}" is no duration', "write 30s, 1m30s or 0s")
    return span(text)


def upstream(text: str, namespace: str) -> tuple[ServiceName, Address]:
    """`NAME[.NS]=[HOST:]PORT`."""
    flag = "--upstream"
    name, separator, place = text.partition("=")
    service, _, other = name.partition(".")
    if not separator or not place:
        raise UsageError(f'{flag}: "{text}" is no NAME[.NS]=[HOST:]PORT', f"{flag} db=5432")
    whole = place if ":" in place else f"{LOOPBACK}:{place}"
    return ServiceName(label(other or namespace, flag), label(service, flag)), address(whole, flag)


def pair(text: str) -> tuple[str, str]:
    """`KEY=VALUE`."""
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise UsageError(f'--meta: "{text}" is no KEY=VALUE', "write --meta version=v1")
    return key, value


def _port(text: str, flag: str, *, free: bool) -> int:
    lowest = 0 if free else 1
    if not text.isascii() or not text.isdigit() or not lowest <= int(text) <= MAX_PORT:
        raise UsageError(f'{flag}: "{text}" is no port', f"{lowest} to {MAX_PORT}")
    return int(text)
