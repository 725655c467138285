"""The etcd store over TLS: who may connect, and what a person is told who may not."""

from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from mesh.adapters.clock import SystemClock
from mesh.adapters.etcd import EtcdSettings, EtcdStore
from mesh.errors import Denied, Unavailable
from mesh.ports import Put, Transaction, Watched
from tests.support.etcd import etcdctl
from tests.support.servers import Server, etcd
from tests.support.tls import Authority, TLSFiles


@dataclass(frozen=True, slots=True)
class Secured:
    """An etcd that wants client certificates of `authority`."""

    server: Server
    authority: Authority

    def store(
        self, files: TLSFiles | None, *, ca: Path | None = None, endpoint: str = ""
    ) -> EtcdStore:
        settings = EtcdSettings(
            endpoints=(endpoint or self.server.endpoint,),
            prefix="mesh",
            cacert=ca or self.authority.file,
            cert=files.cert if files else None,
            key=files.key if files else None,
            timeout=timedelta(seconds=2),
        )
        return EtcdStore(settings, clock=SystemClock())


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder / "ca")
    files = authority.issue("server", "127.0.0.1")
    with etcd(folder, tls=files, client_auth=True) as server:
        yield Secured(server, authority)


async def refusal(store: EtcdStore) -> Denied | Unavailable:
    with pytest.raises((Denied, Unavailable)) as refused:
        await store.__aenter__()
    return refused.value


async def test_a_client_with_its_certificate_reads_writes_and_watches(secured: Secured) -> None:
    files = secured.authority.issue("client")
    async with secured.store(files) as store, aclosing(store.watch("tls")) as states:
        assert await anext(states) == Watched({})
        await store.commit(Transaction(puts=(Put("tls", b"1"),)))
        assert (await anext(states)).entries == await store.fetch(["tls"])


async def test_no_certificate_is_denied(secured: Secured) -> None:
    error = await refusal(secured.store(None))
    assert isinstance(error, Denied)
    assert f"etcd at {secured.server.endpoint} refuses this client's certificate" in error.message
    assert "give cert and key" in error.hint


async def test_a_strangers_certificate_is_denied(secured: Secured, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "stranger").issue("client")
    error = await refusal(secured.store(stranger))
    assert isinstance(error, Denied)
    assert "refuses this client's certificate" in error.message


async def test_a_server_of_an_unknown_ca_is_not_trusted(secured: Secured, tmp_path: Path) -> None:
    files = secured.authority.issue("client")
    error = await refusal(secured.store(files, ca=Authority(tmp_path, "stranger").file))
    assert isinstance(error, Denied)
    assert "is not trusted" in error.message
    assert "cacert must hold the CA" in error.hint


async def test_a_server_under_another_name_is_not_trusted(secured: Secured) -> None:
    port = secured.server.endpoint.rpartition(":")[2]
    files = secured.authority.issue("client")
    error = await refusal(secured.store(files, endpoint=f"localhost:{port}"))
    assert isinstance(error, Denied)
    assert "is not trusted" in error.message
    assert "localhost" in error.message


async def test_files_that_are_missing_or_no_certificates_are_named(
    secured: Secured, tmp_path: Path
) -> None:
    error = await refusal(secured.store(None, ca=tmp_path / "absent.pem"))
    assert "absent.pem" in error.message
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("rubbish")
    error = await refusal(secured.store(None, ca=rubbish))
    assert isinstance(error, Denied)
    assert "rubbish.pem" in error.message


async def test_plain_text_to_a_tls_server_is_unavailable(secured: Secured) -> None:
    settings = EtcdSettings(endpoints=(secured.server.endpoint,), timeout=timedelta(seconds=1))
    error = await refusal(EtcdStore(settings, clock=SystemClock()))
    assert isinstance(error, Unavailable)
    assert secured.server.endpoint in error.message


async def test_tls_to_a_plain_server_is_unavailable(secured: Secured, tmp_path: Path) -> None:
    with etcd(tmp_path) as plain:
        error = await refusal(secured.store(None, endpoint=plain.endpoint))
    assert isinstance(error, Unavailable)
    assert "does it speak TLS?" in error.hint


async def test_a_user_without_the_right_is_denied_by_name_of_the_prefix(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    files = authority.issue("server", "127.0.0.1")
    with etcd(tmp_path, tls=files, client_auth=True) as server:
        secured = Secured(server, authority)
        root = authority.issue("root")
        for command in (
            "role add reader",
            "role grant-permission reader --prefix=true read mesh/",
            "user add root --no-password",
            "user grant-role root root",
            "user add ada --no-password",
            "user grant-role ada reader",
            "auth enable",
        ):
            etcdctl(server, *command.split(), tls=root)
        async with secured.store(authority.issue("ada")) as store:
            assert await store.scan("") == {}
            with pytest.raises(Denied) as denied:
                await store.commit(Transaction(puts=(Put("a", b"1"),)))
            assert "permission denied" in denied.value.message
            assert "readwrite on the store's prefix" in denied.value.hint
        error = await refusal(secured.store(authority.issue("nobody")))
        assert isinstance(error, Denied)
