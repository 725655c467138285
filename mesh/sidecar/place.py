"""Where a sidecar starts: its folder, what it remembers, its addresses, its Envoy."""

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mesh.compiler.bootstrap import bootstrap
from mesh.model.identity import ServiceName
from mesh.model.placement import Placement
from mesh.model.policy import Address
from mesh.ports import DataPlane
from mesh.sidecar import folder
from mesh.sidecar.addresses import Addresses
from mesh.sidecar.cache import Cache
from mesh.sidecar.folder import Folder
from mesh.sidecar.options import SidecarOptions
from mesh.sidecar.ports import SidecarPorts
from mesh.sidecar.remembered import Remembered

_OWNER = "owner.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What one sidecar has before it runs. `owner` is this folder's token for its id;
    `is_adopting`: an Envoy of an earlier agent runs and serves here.
    """

    folder: Folder
    owner: str
    cache: Cache
    remembered: Remembered
    placement: Placement
    addresses: Addresses
    data_plane: DataPlane
    is_adopting: bool
    pins: Mapping[ServiceName, Address]

    def upstreams(self, services: tuple[ServiceName, ...]) -> dict[ServiceName, Address]:
        """A loopback address for each of these TCP services. Blocks for a moment."""
        return self.addresses.upstreams(services, self.pins)


async def take(options: SidecarOptions, ports: SidecarPorts) -> Place:
    """Lock the folder and decide every address.

    Raises:
        Conflict: another agent holds the id.
        PortInUse: somebody else listens on an address that was asked for.
        OutsideError: the state folder cannot be used.
    """
    taken = await asyncio.to_thread(folder.take, options.state, options.service, options.id)
    try:
        return await _furnish(taken, options, ports)
    except BaseException:
        taken.close()
        raise


async def _furnish(taken: Folder, options: SidecarOptions, ports: SidecarPorts) -> Place:
    data_plane = ports.data_plane(
        taken.path,
        bootstrap(
            node_id=taken.id,
            cluster=str(options.service),
            ads_socket=str(taken.ads_socket),
            admin_socket=str(taken.admin_socket),
        ),
    )
    is_adopting = await data_plane.is_ready()
    addresses = Addresses(taken.path, held=is_adopting)
    pins = {service: pin for service, pin in options.upstreams.items() if pin.port}
    cache = Cache(taken.path, options.service)
    return Place(
        folder=taken,
        owner=await asyncio.to_thread(_owner, taken.path),
        cache=cache,
        remembered=await cache.load(),
        placement=await asyncio.to_thread(_placement, taken.id, options, addresses, pins),
        addresses=addresses,
        data_plane=data_plane,
        is_adopting=is_adopting,
        pins=pins,
    )


def _placement(
    id: str,
    options: SidecarOptions,
    addresses: Addresses,
    pins: Mapping[ServiceName, Address],
) -> Placement:
    addresses.check_pins(pins)
    return Placement(
        id=id,
        service=options.service,
        outbound=addresses.outbound(options.outbound),
        inbound=addresses.inbound(options.inbound) if options.app else None,
        app=options.app,
        metrics=options.metrics is not None,
    )


def _owner(path: Path) -> str:
    """A token that stays with the folder, so that the next agent here is the same owner."""
    known = folder.read_document(path / _OWNER)
    if known is None:
        known = {"token": secrets.token_hex(16)}
        folder.write_document(path / _OWNER, known)
    return str(known["token"])
