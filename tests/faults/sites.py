"""Hosts on one machine: network namespaces on a bridge, or plain loopback without root.

A cut is what a cut is on a network: packets vanish, nobody is told.
"""

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

NETWORK = "10.213.77"
BRIDGE = "br0"


@dataclass(frozen=True, slots=True)
class Site:
    """A host: `prefix` goes in front of every command that runs on it."""

    name: str
    address: str = "127.0.0.1"
    prefix: tuple[str, ...] = ()


_TAGS = itertools.cycle("abcdefghijklmnopqrstuvwxyz")


class Wires:
    """A switch with a namespace per site. The switch is a bridge in a namespace of its own: on the
    machine's own network a packet filter (Docker's drops what is bridged) would have its say.
    """

    def __init__(self, tag: str) -> None:
        self._tag = tag
        self._count = 10

    @property
    def switch(self) -> str:
        """The switch's namespace; this machine itself has address 1 on it."""
        return f"{self._tag}-switch"

    def site(self, name: str) -> Site:
        """A new host, connected."""
        self._count += 1
        space, outer, inner = self._names(name)
        address = f"{NETWORK}.{self._count}"
        _ip("netns", "add", space)
        _ip("link", "add", outer, "type", "veth", "peer", "name", inner)
        _ip("link", "set", inner, "netns", space)
        self._plug(outer)
        _ip("-n", space, "addr", "add", f"{address}/24", "dev", inner)
        _ip("-n", space, "link", "set", inner, "up")
        _ip("-n", space, "link", "set", "lo", "up")
        return Site(name, address, ("ip", "netns", "exec", space))

    def cut(self, site: Site) -> None:
        """Nothing gets in or out."""
        _ip("-n", self.switch, "link", "set", self._names(site.name)[1], "nomaster")

    def mend(self, site: Site) -> None:
        """As before a cut."""
        _ip("-n", self.switch, "link", "set", self._names(site.name)[1], "master", BRIDGE)

    def mute(self, site: Site, others: list[str]) -> None:
        """What the site sends to these addresses is lost; it still hears them."""
        for other in others:
            self._neighbour(
                site, "replace", other, "lladdr", "02:00:00:00:00:99", "nud", "permanent"
            )

    def unmute(self, site: Site, others: list[str]) -> None:
        """As before `mute`."""
        for other in others:
            self._neighbour(site, "del", other)

    def _neighbour(self, site: Site, act: str, address: str, *how: str) -> None:
        space, _, inner = self._names(site.name)
        _ip("-n", space, "neigh", act, address, *how, "dev", inner)

    def _names(self, name: str) -> tuple[str, str, str]:
        return f"{self._tag}-{name}", f"{self._tag}{name}", f"{self._tag}i{name}"

    def up(self) -> None:
        """Make the switch, and plug this machine in."""
        ours, theirs = f"{self._tag}us"[:14], f"{self._tag}sw"[:14]
        _ip("netns", "add", self.switch)
        _ip("-n", self.switch, "link", "add", BRIDGE, "type", "bridge")
        _ip("-n", self.switch, "link", "set", BRIDGE, "up")
        _ip("link", "add", ours, "type", "veth", "peer", "name", theirs)
        self._plug(theirs)
        _ip("addr", "add", f"{NETWORK}.1/24", "dev", ours)
        _ip("link", "set", ours, "up")

    def _plug(self, wire: str) -> None:
        _ip("link", "set", wire, "netns", self.switch)
        _ip("-n", self.switch, "link", "set", wire, "master", BRIDGE, "up")

    def down(self) -> None:
        """Remove all of it; our own wire first: a namespace's links go some time after it."""
        ours = f"{self._tag}us"[:14]
        subprocess.run(["ip", "link", "del", ours], capture_output=True, check=False)
        listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
        for line in listed.stdout.splitlines():
            if line.startswith(f"{self._tag}-"):
                _ip("netns", "del", line.split()[0])  # and with it the ends of its wires


def has_namespaces() -> bool:
    """Whether this process may make network namespaces."""
    return os.geteuid() == 0 and shutil.which("ip") is not None


@contextmanager
def wired() -> Iterator[Wires]:
    """Wires, gone afterwards with their namespaces."""
    wires = Wires(f"m{os.getpid() % 100000}{next(_TAGS)}")
    try:
        wires.up()
        yield wires
    finally:
        wires.down()


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
