"""etcd's credentials that expire or are taken away: what each command says, what a sidecar does."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from mesh.adapters.clock import SystemClock
from mesh.adapters.etcd import EtcdSettings, EtcdStore
from mesh.errors import Denied
from mesh.model.status import SidecarState
from mesh.operations.sidecars import read_members
from mesh.ports import Put, Transaction
from tests.support.command import Mesh, Ran
from tests.support.etcd import etcdctl, lost, until
from tests.support.mesh_host import CLOCK, DEADLINE, Host, Spawned
from tests.support.servers import Server, etcd
from tests.support.tls import Authority, TLSFiles

SHORT = timedelta(seconds=2)
OVER = timedelta(minutes=-1)
DOCUMENTS = """
apiVersion: mesh/v1
kind: Service
metadata: {name: api}
spec: {protocol: http, port: 80}
---
apiVersion: mesh/v1
kind: AccessPolicy
metadata: {name: api}
spec:
  targetRefs: [{kind: Service, name: api}]
  rules: [{name: web, action: allow, from: [{service: web}]}]
"""


@dataclass
class Secured:
    """An etcd with users: `root`, `operator` and `sidecars`, the latter two with a role each."""

    server: Server
    authority: Authority
    root: TLSFiles
    files: dict[str, TLSFiles] = field(default_factory=dict)

    def ctl(self, *words: str) -> None:
        etcdctl(self.server, *words, tls=self.root)

    def admit(self, user: str) -> None:
        self.ctl("user", "add", user, "--no-password")
        self.ctl("user", "grant-role", user, f"uses-{user}")

    def issue(self, user: str, **options: timedelta) -> None:
        """Give the user a certificate, in place of the one that it has."""
        self.files[user] = self.authority.issue(user, **options)

    def url(self, user: str) -> str:
        files = self.files[user]
        query = f"cacert={files.ca}&cert={files.cert}&key={files.key}"
        return f"etcd://{self.server.endpoint}/mesh?{query}"

    def store(self, user: str) -> EtcdStore:
        files = self.files[user]
        settings = EtcdSettings(
            endpoints=(self.server.endpoint,),
            cacert=files.ca,
            cert=files.cert,
            key=files.key,
            timeout=timedelta(seconds=2),
        )
        return EtcdStore(settings, clock=SystemClock())

    def start(self) -> None:
        self.server.start()
        self.server.wait_ready()


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Secured]:
    authority = Authority(tmp_path / "ca")
    files = authority.issue("server", "127.0.0.1")
    with etcd(tmp_path, tls=files, client_auth=True) as server:
        made = Secured(server, authority, authority.issue("root"))
        made.ctl("user", "add", "root", "--no-password")
        made.ctl("user", "grant-role", "root", "root")
        for user in ("operator", "sidecars"):
            made.ctl("role", "add", f"uses-{user}")
            made.ctl("role", "grant-permission", f"uses-{user}", "--prefix", "readwrite", "mesh/")
            made.admit(user)
            made.issue(user)
        made.ctl("auth", "enable")
        yield made


@dataclass
class Serving:
    """web calls api; the sidecars' credentials are those of `sidecars`."""

    host: Host
    web: Spawned
    mesh: Mesh
    secured: Secured

    def as_user(self, user: str, *words: str) -> Ran:
        return self.mesh(*words, environment={"MESH_STORE": self.secured.url(user)})

    async def missed(self, sidecars: int) -> None:
        """Return when so many sidecars have noticed that the store is away."""
        log = self.host.folder / "mesh.log"
        async with asyncio.timeout(DEADLINE):
            while log.read_text().count('"what": "status reports"') < sidecars:
                await CLOCK.sleep(timedelta(milliseconds=50))

    async def states(self, wanted: set[SidecarState]) -> None:
        """Return when the sidecars are as an operator's status shall show them."""
        end = CLOCK.monotonic() + 2 * DEADLINE
        async with self.secured.store("operator") as store:
            while True:
                found = await read_members(store)
                states = {each.state(1) for each in found}
                if len(found) == 2 and states == wanted:
                    return
                assert CLOCK.monotonic() < end, states
                await CLOCK.sleep(timedelta(milliseconds=100))

    def refusals(self, message: str, hint: str) -> None:
        """What whoever has the sidecars' credentials is told by each command."""
        policies = self.host.folder / "policies.yaml"
        for words in (["status"], ["apply", str(policies), "--yes"]):
            ran = self.as_user("sidecars", *words, "--output", "json")
            assert ran.code == 3
            error = ran.json["error"]
            assert error["code"] == "denied"
            assert message in error["message"]
            assert hint in error["hint"]
        ran = self.as_user("sidecars", "doctor", "--output", "json")
        assert ran.code == 3
        (found,) = (each for each in ran.json["findings"] if each["level"] == "error")
        assert found["check"] == "store"
        assert message in found["message"]
        assert hint in found["hint"]


@pytest.fixture
async def serving(secured: Secured) -> AsyncIterator[Serving]:
    settings = {"MESH_STORE": secured.url("sidecars")}
    async with Host(lambda: secured.store("operator"), None, settings) as host:
        await host.apply(DOCUMENTS)
        await host.spawn("api", host.apps("api")["api"])
        web = await host.spawn("web")
        await host.until(web, "api")
        yield Serving(host, web, Mesh(host.folder), secured)


async def test_an_expired_certificate_is_told_and_a_renewed_one_taken_up(
    serving: Serving, secured: Secured
) -> None:
    secured.issue("sidecars", lifetime=OVER)
    secured.server.stop()
    await serving.missed(2)
    secured.start()
    await serving.states({SidecarState.STALE})
    assert (await serving.host.ask(serving.web, "api")).status == 200
    serving.refusals("refuses this client's certificate (sidecars, until 20", "renew")
    secured.issue("sidecars")
    await serving.states({SidecarState.IN_SYNC})
    assert serving.as_user("sidecars", "status").code == 0
    assert (await serving.host.ask(serving.web, "api")).status == 200


@pytest.mark.parametrize(
    ("taken", "given"),
    [
        ("user delete sidecars", "user add sidecars --no-password"),
        ("user revoke-role sidecars uses-sidecars", ""),
    ],
)
async def test_who_lost_the_right_is_told_and_heals_when_it_is_granted(
    serving: Serving, secured: Secured, taken: str, given: str
) -> None:
    secured.ctl(*taken.split())
    await serving.states({SidecarState.STALE})
    assert (await serving.host.ask(serving.web, "api")).status == 200
    serving.refusals("permission denied", "readwrite on the store's prefix")
    if given:
        secured.ctl(*given.split())
    secured.ctl("user", "grant-role", "sidecars", "uses-sidecars")
    await serving.states({SidecarState.IN_SYNC})


async def test_a_watch_survives_an_expiry_and_a_renewal(secured: Secured) -> None:
    secured.issue("sidecars", lifetime=SHORT)
    over = CLOCK.now() + SHORT
    async with secured.store("sidecars") as store, aclosing(store.watch("x")) as states:
        await until(states)
        await CLOCK.sleep(over - CLOCK.now() + timedelta(seconds=1))
        secured.server.stop()
        secured.start()
        await lost(states)
        with pytest.raises(Denied, match=r"certificate \(sidecars, until 20"):
            await store.fetch(["x"])
        secured.files["sidecars"].key.write_text("half of a renewal")
        with pytest.raises(Denied):
            await store.fetch(["x"])
        secured.issue("sidecars")
        await until(states)
        await store.commit(Transaction(puts=(Put("x", b"1"),)))
        await until(states, x="1")


async def test_another_user_in_the_same_files_is_taken_up_after_a_refusal(
    secured: Secured,
) -> None:
    async with secured.store("sidecars") as store:
        secured.ctl("user", "revoke-role", "sidecars", "uses-sidecars")
        with pytest.raises(Denied):
            await store.fetch(["x"])
        operator, files = secured.files["operator"], secured.files["sidecars"]
        files.cert.write_bytes(operator.cert.read_bytes())
        files.key.write_bytes(operator.key.read_bytes())
        with pytest.raises(Denied):
            await store.fetch(["x"])
        assert await store.fetch(["x"]) == {}
