import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from mesh import tls
from mesh.adapters.issuer import LocalIssuer
from mesh.authority.credentials import Credentials
from mesh.ca.server import SERVER_LIFETIME
from mesh.errors import CertificateRefused
from tests.support.manual_clock import ManualClock
from tests.support.revisions import CLOCK

NAMES = ("127.0.0.1",)


async def test_it_is_replaced_at_half_of_its_life(tmp_path: Path) -> None:
    clock = ManualClock()
    credentials = Credentials(LocalIssuer(tmp_path / "ca", clock=clock), clock, NAMES)
    await credentials.refresh()
    first = credentials.not_after["server"]
    clock.advance(SERVER_LIFETIME / 2 - timedelta(seconds=1))
    await credentials.refresh()
    assert credentials.not_after["server"] == first
    clock.advance(timedelta(seconds=1))
    await credentials.refresh()
    assert credentials.not_after["server"] == clock.now() + SERVER_LIFETIME


async def test_a_listener_follows_a_change_of_roots(tmp_path: Path) -> None:
    issuer = LocalIssuer(tmp_path / "ca", clock=CLOCK)
    credentials = Credentials(issuer, CLOCK, NAMES)
    server = await asyncio.start_server(
        lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=await credentials.context()
    )
    port = server.sockets[0].getsockname()[1]

    async def shake_hands(roots_pem: bytes) -> None:
        context = tls.client_context(roots_pem)
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.close()

    async with server:
        old = (await credentials.refresh()).roots_pem
        await shake_hands(old)
        await issuer.rotate(root=True)
        both = (await credentials.refresh()).roots_pem
        await shake_hands(old)  # nothing is signed under the new root yet
        await issuer.activate()
        await credentials.refresh()
        await shake_hands(both)
        with pytest.raises(OSError, match="verify failed"):
            await shake_hands(old)


async def test_a_name_that_is_none_is_refused(tmp_path: Path) -> None:
    issuer = LocalIssuer(tmp_path / "ca", clock=CLOCK)
    with pytest.raises(CertificateRefused, match="no host name"):
        await Credentials(issuer, CLOCK, ["not a name"]).refresh()
