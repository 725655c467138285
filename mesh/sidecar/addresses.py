"""Which addresses a sidecar listens on: as asked, or free ports that it keeps over restarts.

Free ports come from below the range that the kernel gives to outgoing connections (from 32768 on
Linux, 49152 on macOS), so that no connection takes a listener's port while its Envoy restarts.
Sidecars of one state folder choose under one lock and leave one another's ports alone.
"""

import fcntl
import hashlib
import os
import socket
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mesh.errors import PortInUse
from mesh.model.identity import ServiceName
from mesh.model.policy import Address
from mesh.sidecar import folder
from mesh.sockets import is_free

LOOPBACK = "127.0.0.1"
FREE_PORTS = range(20_000, 32_000)
_FILE = "addresses.json"
_INBOUND = "inbound"
_OUTBOUND = "outbound"
_UPSTREAM = "upstream "


class Addresses:
    """The listening addresses of the sidecar in `place`, remembered in its folder.

    `held` says that its own Envoy runs already and so holds what is remembered: those addresses
    are then not tried. Calls block for a few system calls and, after a choice, one fsync.
    """

    def __init__(self, place: Path, *, held: bool = False) -> None:
        self._file = place / _FILE
        self._lock = place.parent / ".ports"
        self._held = held
        self._kept = _read(self._file)

    def inbound(self, asked: Address) -> Address:
        """Where other sidecars come in; port 0 asks for a free one.

        Raises:
            PortInUse: somebody else listens there.
        """
        return self._listener(_INBOUND, asked, "--inbound")

    def outbound(self, asked: Address) -> Address:
        """Where the application goes out; port 0 asks for a free one.

        Raises:
            PortInUse: somebody else listens there.
        """
        return self._listener(_OUTBOUND, asked, "--outbound")

    def check_pins(self, pins: Mapping[ServiceName, Address]) -> None:
        """Refuse at start a pinned upstream address that is taken.

        Raises:
            PortInUse: somebody else listens there.
        """
        for service, pin in pins.items():
            self._check(_UPSTREAM + str(service), pin, "--upstream")

    def upstreams(
        self, services: Collection[ServiceName], pins: Mapping[ServiceName, Address]
    ) -> dict[ServiceName, Address]:
        """A loopback address for each TCP service: pinned, else remembered, else a free one.

        Raises:
            PortInUse: every port of the range is taken.
        """
        new = [s for s in services if s not in pins and _UPSTREAM + str(s) not in self._kept]
        if new:
            with self._choosing() as taken:
                for service in sorted(new):
                    name = _UPSTREAM + str(service)
                    self._kept[name] = self._free(name, LOOPBACK, taken)
        return {s: pins.get(s) or self._kept[_UPSTREAM + str(s)] for s in sorted(services)}

    def _listener(self, name: str, asked: Address, flag: str) -> Address:
        if asked.port:
            self._check(name, asked, flag)
            if self._kept.get(name) != asked:
                self._kept[name] = asked
                self._write()
            return asked
        kept = self._kept.get(name)
        if kept is not None and kept.address == asked.address and (self._held or is_free(kept)):
            return kept
        with self._choosing() as taken:
            self._kept[name] = self._free(name, asked.address, taken)
        return self._kept[name]

    def _check(self, name: str, asked: Address, flag: str) -> None:
        if self._held and self._kept.get(name) == asked:
            return
        if not is_free(asked):
            raise PortInUse(
                f"{asked.address}:{asked.port} is in use or not an address of this host ({flag})",
                hint=f"give another address with {flag}, or port 0 for a free one",
            )

    @contextmanager
    def _choosing(self) -> Iterator[set[int]]:
        """Hold the lock of all sidecars here; the ports that they and this one remember."""
        lock = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            others = (_read(file) for file in self._lock.parent.glob(f"*/{_FILE}"))
            yield {address.port for kept in others for address in kept.values()} | {
                address.port for address in self._kept.values()
            }
            self._write()
        finally:
            os.close(lock)

    def _free(self, name: str, address: str, taken: set[int]) -> Address:
        """The first free port from a place that the folder's path decides: mostly the same one."""
        seed = hashlib.sha256(f"{self._file.absolute()} {name}".encode()).digest()
        start = int.from_bytes(seed[:4], "big") % len(FREE_PORTS)
        order = [*FREE_PORTS[start:], *FREE_PORTS[:start]]
        unused = sorted(order, key=lambda port: port in taken)  # others' ports as a last resort
        for port in unused:
            if is_free(Address(address, port)):
                taken.add(port)
                return Address(address, port)
        raise PortInUse(f"no free port on {address} from {FREE_PORTS.start} to {FREE_PORTS.stop}")

    def _write(self) -> None:
        folder.write_document(
            self._file, {name: [a.address, a.port] for name, a in self._kept.items()}
        )


def advertised(inbound: Address, asked: str | None) -> str:
    """The address that callers are told: as asked, else where inbound listens, else, where that
    is every interface, the one that this host's default route leaves from (loopback without).
    """
    if asked:
        return asked
    wildcard = {"0.0.0.0": socket.AF_INET, "::": socket.AF_INET6}  # noqa: S104 - compared, not bound
    family = wildcard.get(inbound.address)
    if family is None:
        return inbound.address
    # Connecting a datagram socket sends nothing; it only asks the kernel for a route. The
    # addresses are documentation prefixes (RFC 5737, RFC 3849).
    far = "192.0.2.1" if family is socket.AF_INET else "2001:db8::1"
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((far, 9))
            return str(probe.getsockname()[0])
        except OSError:
            return LOOPBACK if family is socket.AF_INET else "::1"


def _read(file: Path) -> dict[str, Address]:
    content = folder.read_document(file) or {}
    return {name: Address(str(host), int(port)) for name, (host, port) in content.items()}
