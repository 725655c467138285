import asyncio
import shutil
import stat
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from mesh.adapters.embedded import EmbeddedStore
from mesh.adapters.issuer import LocalIssuer
from mesh.authority.registry import Registry
from mesh.ca.chain import fingerprint, read_certificates
from mesh.ca.request import new_key_and_csr
from mesh.errors import Denied, InputError, MeshError, Unavailable
from mesh.model.identity import Identity, ServiceName
from mesh.ports import Store
from tests.support.authority import (
    HOUR,
    WEB,
    Service,
    ShiftedClock,
    client,
    serving,
    svid_of,
)
from tests.support.revisions import CLOCK

SECOND = timedelta(seconds=1)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with EmbeddedStore(tmp_path / "mesh.db", clock=CLOCK) as store:
        yield store


@pytest.fixture
async def service(tmp_path: Path, store: Store) -> AsyncIterator[Service]:
    async with serving(tmp_path / "ca", store) as service:
        yield service


async def test_a_host_joins_by_fingerprint_and_token_and_then_renews_without(
    service: Service, tmp_path: Path
) -> None:
    first = await svid_of(service.client(tmp_path / "host", await service.token()))
    assert first.identity == WEB
    second = await svid_of(service.client(tmp_path / "host"), current=first)
    assert second.identity == WEB
    assert second.chain_pem != first.chain_pem
    kept = tmp_path / "host" / "authorities" / "ca.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


async def test_a_file_of_roots_does_what_a_fingerprint_does(
    service: Service, tmp_path: Path
) -> None:
    file = tmp_path / "roots.pem"
    file.write_bytes((await service.issuer.bundle()).roots_pem)
    host = service.client(tmp_path / "host", await service.token(), fingerprints=(), cacert=file)
    assert (await svid_of(host)).identity == WEB


@pytest.mark.parametrize("content", [None, b"", b"nonsense"])
async def test_a_file_that_has_no_roots_is_named(
    service: Service, tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "roots.pem"
    if content is not None:
        file.write_bytes(content)
    host = service.client(tmp_path / "host", "x", fingerprints=(), cacert=file)
    with pytest.raises(InputError, match=str(file)) as caught:
        await host.fresh_bundle()
    assert "MESH_CA" in caught.value.hint


async def test_a_lost_answer_costs_no_token(service: Service, tmp_path: Path) -> None:
    host = service.client(tmp_path / "host", await service.token())
    _, csr_pem = new_key_and_csr(WEB)
    first = read_certificates(await host.issue(WEB, csr_pem, HOUR))[0]
    again = read_certificates(await host.issue(WEB, csr_pem, HOUR))[0]
    assert first.public_key() == again.public_key()
    with pytest.raises(Denied, match="no use left"):
        await host.issue(WEB, new_key_and_csr(WEB)[1], HOUR)


async def test_joins_at_once_with_one_token_have_one_winner(
    service: Service, tmp_path: Path
) -> None:
    token = await service.token()
    hosts = [service.client(tmp_path / f"host{number}", token) for number in range(5)]

    async def join(number: int) -> str:
        try:
            await svid_of(hosts[number])
        except Denied as error:
            return error.message
        return "joined"

    async with asyncio.TaskGroup() as group:
        tries = [group.create_task(join(number)) for number in range(len(hosts))]
    found = [task.result() for task in tries]
    assert found.count("joined") == 1
    assert sum("no use left" in one for one in found) == 4


async def test_an_expired_token_says_when_it_expired(service: Service, tmp_path: Path) -> None:
    token = await service.token(ttl=timedelta(microseconds=1))
    await refused(
        service.client(tmp_path / "host", token), "expired at 20", "mesh token create --service web"
    )


async def test_a_token_of_another_service_says_whose_it_is(
    service: Service, tmp_path: Path
) -> None:
    token = await service.token(ServiceName("shop", "api"))
    await refused(
        service.client(tmp_path / "host", token), 'is for "shop/api", not for "default/web"', "web"
    )


async def test_an_unknown_token_says_so(service: Service, tmp_path: Path) -> None:
    await refused(
        service.client(tmp_path / "host", "mesh_join_" + "x" * 43), "not known here", "MESH_TOKEN"
    )


async def test_what_is_no_token_never_leaves_the_host(service: Service, tmp_path: Path) -> None:
    await refused(service.client(tmp_path / "host", "hunter2"), "holds no join token", "create")
    missing = service.client(tmp_path / "host", token_file=tmp_path / "missing")
    await refused(missing, f'"{tmp_path / "missing"}" cannot be read: No such file', "create")
    await refused(service.client(tmp_path / "host"), "MESH_TOKEN_FILE is not set", "create")


async def test_an_expired_certificate_needs_a_token(service: Service, tmp_path: Path) -> None:
    host = service.client(tmp_path / "host", await service.token())
    svid = await svid_of(host, lifetime=3 * SECOND)  # in whole seconds: less may be over at once
    await CLOCK.sleep(svid.not_after - CLOCK.now())
    host = service.client(tmp_path / "host")
    with pytest.raises(Denied, match="the certificate expired at") as caught:
        await svid_of(host, current=svid)
    assert "mesh token create --service web --namespace default" in caught.value.hint
    host = service.client(tmp_path / "host", await service.token())
    assert (await svid_of(host, current=svid)).not_after > svid.not_after


async def test_a_certificate_of_another_authority_is_replaced_by_a_join(
    service: Service, tmp_path: Path
) -> None:
    svid = await svid_of(LocalIssuer(tmp_path / "other", clock=CLOCK))
    with pytest.raises(Denied, match="of another authority, and there is no join token"):
        await svid_of(service.client(tmp_path / "host"), current=svid)
    host = service.client(tmp_path / "host", await service.token())
    assert (await svid_of(host, current=svid)).chain_pem != svid.chain_pem


async def test_an_authority_restored_from_before_its_rotation_is_joined_anew(
    tmp_path: Path, store: Store
) -> None:
    """The host learned both roots; the restored authority does not have the one of its host."""
    backup = tmp_path / "backup"
    async with serving(tmp_path / "ca", store) as service:
        shutil.copytree(tmp_path / "ca", backup)
        await service.issuer.rotate(root=True)
        in_use = (await service.issuer.activate()).certificates[0].fingerprint
        host = service.client(tmp_path / "host", await service.token(), fingerprints=(in_use,))
        svid = await svid_of(host)
    async with serving(backup, store, listen=service.serving.listen) as restored:
        with pytest.raises(Denied, match="of another authority, and there is no join token"):
            await svid_of(service.client(tmp_path / "host"), current=svid)
        host = service.client(tmp_path / "host", await restored.token())
        assert (await svid_of(host, current=svid)).identity == WEB


async def test_a_certificate_that_is_over_for_the_authority_alone_is_a_matter_of_clocks(
    service: Service, tmp_path: Path
) -> None:
    token = await service.token()
    svid = await svid_of(service.client(tmp_path / "host", token), lifetime=3 * SECOND)
    await CLOCK.sleep(svid.not_after - CLOCK.now())
    behind = service.client(
        tmp_path / "host", await service.token(), clock=ShiftedClock(timedelta(seconds=-30))
    )
    with pytest.raises(Unavailable, match="shown this host's certificate, which is valid until"):
        await svid_of(behind, current=svid)
    (used, unused) = sorted((await Registry(service.store, CLOCK).all()), key=lambda one: one.uses)
    assert (used.uses, unused.uses) == (0, 1)


async def test_a_certificate_of_the_future_is_a_matter_of_clocks(
    service: Service, tmp_path: Path
) -> None:
    svid = await svid_of(service.client(tmp_path / "host", await service.token()))
    behind = service.client(tmp_path / "host", clock=ShiftedClock(timedelta(hours=-1)))
    with pytest.raises(Denied, match="by this host's clock the certificate is not valid") as caught:
        await svid_of(behind, current=svid)
    assert "time service" in caught.value.hint


async def test_a_wrong_fingerprint_tells_both(service: Service, tmp_path: Path) -> None:
    pin = "sha256:" + "0" * 64
    host = service.client(tmp_path / "host", await service.token(), fingerprints=(pin,))
    found = service.serving.fingerprint
    await refused(host, f"has the root {found}, not the one of MESH_CA, {pin}", "mesh ca status")


async def test_an_impostor_with_the_right_bundle_gets_no_token(
    service: Service, tmp_path: Path, store: Store
) -> None:
    """Anybody can repeat the true roots; the second connection is verified by them."""
    stranger = LocalIssuer(tmp_path / "stranger", clock=CLOCK)
    (root,) = read_certificates((await stranger.bundle()).roots_pem)
    file = tmp_path / "roots.pem"
    file.write_bytes((await stranger.bundle()).roots_pem)
    host = service.client(tmp_path / "host", "mesh_join_" + "x" * 43, fingerprints=(), cacert=file)
    await refused(host, "does not lead to the root of MESH_CA", "ready line")
    assert fingerprint(root) != service.serving.fingerprint


async def test_another_name_than_the_servers_is_told(service: Service, tmp_path: Path) -> None:
    host = client(
        service.serving.url.replace("127.0.0.1", "localhost"),
        tmp_path / "host",
        await service.token(),
    )
    await refused(host, 'is not for "localhost"', "--name localhost")


async def test_nobody_there_is_told_and_passes(tmp_path: Path, store: Store) -> None:
    async with serving(tmp_path / "ca", store) as service:
        host = service.client(tmp_path / "host", await service.token())
        listen = service.serving.listen
    with pytest.raises(Unavailable) as caught:
        await svid_of(host)
    assert f"{service.url} is out of reach: connection refused" in caught.value.message
    assert "mesh ca serve" in caught.value.hint
    async with serving(tmp_path / "ca", store, listen=listen):
        assert (await svid_of(host)).identity == WEB


async def test_who_does_not_speak_as_an_authority_does_is_told(
    service: Service, tmp_path: Path
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        host = client(service.serving.url, tmp_path / "host", "x", port=port)
        with pytest.raises(Unavailable, match="out of reach"):
            await host.fresh_bundle()


@pytest.mark.parametrize(
    ("shift", "message"),
    [
        (timedelta(hours=1), "is not valid yet by this host's clock"),
        (timedelta(days=-2), "has expired by this host's clock"),
        (timedelta(minutes=3), "the new certificate is valid from"),
    ],
)
async def test_a_clock_that_is_off_is_told(
    tmp_path: Path, store: Store, shift: timedelta, message: str
) -> None:
    async with serving(tmp_path / "ca", store, clock=ShiftedClock(shift)) as service:
        token = await service.token(ttl=timedelta(days=7))
        await refused(service.client(tmp_path / "host", token), message, "time service")


async def test_a_mesh_of_another_trust_domain_is_told(service: Service, tmp_path: Path) -> None:
    host = service.client(tmp_path / "host", await service.token())
    other = Identity("other.example", WEB.service)
    with pytest.raises(Denied, match=r'"other\.example"') as caught:
        await svid_of(host, other)
    assert "MESH_STORE" in caught.value.hint


async def test_a_rotation_needs_no_new_fingerprint(service: Service, tmp_path: Path) -> None:
    host = service.client(tmp_path / "host", await service.token())
    svid = await svid_of(host)
    await service.issuer.rotate(root=True)
    assert (await host.fresh_bundle()).roots_pem.count(b"BEGIN") == 2
    await service.issuer.activate()
    again = service.client(tmp_path / "host")  # restarted: the pinned root signs nothing now
    renewed = await svid_of(again, current=svid)
    old, new = read_certificates((await again.bundle()).roots_pem)[::-1]
    assert fingerprint(old) == service.serving.fingerprint
    assert read_certificates(renewed.chain_pem)[1].issuer == new.subject


async def test_a_root_that_is_used_at_once_is_one_that_the_service_takes_at_once(
    service: Service, tmp_path: Path
) -> None:
    host = service.client(tmp_path / "host", await service.token())
    svid = await svid_of(host)
    await service.issuer.rotate(root=True)
    await service.issuer.activate()
    renewed = await svid_of(host, current=svid)
    assert (await svid_of(host, current=renewed)).chain_pem != renewed.chain_pem


async def test_renewals_all_through_a_rotation_lose_nothing(
    service: Service, tmp_path: Path
) -> None:
    """Leaves of seconds, renewed without a pause, while all that signs is replaced."""
    token, counts, is_over = await service.token(uses=3), Counter[int](), asyncio.Event()

    async def renew(number: int) -> None:
        host = service.client(tmp_path / f"host{number}", token)
        svid = await svid_of(host, lifetime=10 * SECOND)
        while not is_over.is_set():
            svid = await svid_of(host, current=svid, lifetime=10 * SECOND)
            counts[number] += 1

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(renew(number))
        issuer = service.issuer
        for step in (issuer.rotate, partial(issuer.rotate, root=True), issuer.activate):
            await step()
            before = counts.copy()
            while any(counts[number] < before[number] + 3 for number in range(3)):
                await CLOCK.sleep(timedelta(milliseconds=5))
        is_over.set()
    roots = (await service.client(tmp_path / "host0").bundle()).roots_pem
    assert len(read_certificates(roots)) == 2


async def refused(host: object, message: str, hint: str) -> None:
    with pytest.raises(MeshError) as caught:
        await svid_of(host)  # type: ignore[arg-type]
    assert isinstance(caught.value, Denied)
    assert message in caught.value.message
    assert hint in caught.value.hint
