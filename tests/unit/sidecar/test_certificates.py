import asyncio
from datetime import timedelta
from pathlib import Path

from mesh.adapters.issuer import LocalIssuer
from mesh.errors import Denied, Unavailable
from mesh.latest import Latest
from mesh.model.identity import SVID, Identity, ServiceName, TrustBundle
from mesh.ports import Issuer
from mesh.sidecar.certificates import CertificateKeeper, MeshIssuer
from mesh.sidecar.policies import PolicySource, Scope
from tests.support.manual_clock import ManualClock
from tests.support.revisions import CLOCK, QUICK, Commits, once

WEB = ServiceName("default", "web")
MESH = """
apiVersion: mesh/v1
kind: Mesh
metadata: {name: mesh}
spec: {trustDomain: example.org, certificates: {lifetime: LIFETIME}}
"""


async def scope_of(commits: Commits, documents: str) -> Scope:
    await commits(documents)
    source = PolicySource(commits.store, WEB, CLOCK)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(source.run())
        scope = await once(source.newest, lambda s: s is not None)
        running.cancel()
    assert scope is not None
    return scope


class Keeping:
    """A keeper with a real local CA and a clock of its own."""

    def __init__(self, folder: Path, remembered: SVID | None = None) -> None:
        self.clock = ManualClock()
        self.scope: Latest[Scope | None] = Latest(None)
        self.folder = folder
        self.is_reachable = True
        issuer = MeshIssuer(self._issuer, self.scope)
        self.keeper = CertificateKeeper(issuer, self.clock, WEB, self.scope, remembered)

    def _issuer(self, trust_domain: str) -> Issuer:
        if not self.is_reachable:
            raise Unavailable("nobody signs")
        return LocalIssuer(self.folder, clock=self.clock, trust_domain=trust_domain)


async def test_the_mesh_says_whose_and_how_long(tmp_path: Path, commits: Commits) -> None:
    keeping = Keeping(tmp_path / "ca")
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(keeping.keeper.run())
        keeping.scope.set(Scope())  # no revision yet: no trust domain, no certificate
        keeping.scope.set(await scope_of(commits, MESH.replace("LIFETIME", "1h")))
        first = await once(keeping.keeper.newest, lambda svid: svid is not None)
        assert first is not None
        assert first.identity == Identity("example.org", WEB)
        assert first.not_after - keeping.clock.now() == timedelta(hours=1)
        keeping.scope.set(await scope_of(commits, MESH.replace("LIFETIME", "10s")))
        second = await once(keeping.keeper.newest, lambda svid: svid != first)
        assert second is not None
        assert second.not_after - keeping.clock.now() == timedelta(seconds=10)
        running.cancel()


async def test_a_renewal_comes_when_it_is_due_and_not_before(
    tmp_path: Path, commits: Commits
) -> None:
    keeping = Keeping(tmp_path / "ca")
    scope = await scope_of(commits, MESH.replace("LIFETIME", "1h"))
    keeping.scope.set(scope)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(keeping.keeper.run())
        first = await once(keeping.keeper.newest, lambda svid: svid is not None)
        for minutes, is_renewed in ((29, False), (11, True)):
            keeping.clock.advance(timedelta(minutes=minutes))
            keeping.scope.set(None)  # wakes the keeper
            keeping.scope.set(scope)
            await CLOCK.sleep(timedelta())
            if is_renewed:
                await once(keeping.keeper.newest, lambda svid: svid != first)
            assert (keeping.keeper.newest.value != first) == is_renewed
        running.cancel()


async def test_a_remembered_certificate_is_used_and_its_end_is_trouble(
    tmp_path: Path, commits: Commits
) -> None:
    scope = await scope_of(commits, MESH.replace("LIFETIME", "1h"))
    before = Keeping(tmp_path / "ca")
    before.scope.set(scope)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(before.keeper.run())
        svid = await once(before.keeper.newest, lambda svid: svid is not None)
        running.cancel()
    assert svid is not None
    keeping = Keeping(tmp_path / "ca", svid)
    keeping.is_reachable = False
    keeping.clock.advance(timedelta(minutes=41))
    keeping.scope.set(scope)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(keeping.keeper.run())
        async with asyncio.timeout(10):
            while not keeping.clock.sleepers:  # until it has tried, and failed
                await CLOCK.sleep(timedelta())
        assert keeping.keeper.newest.value == svid
        assert keeping.keeper.trouble(keeping.clock.now()) is None
        keeping.clock.advance(timedelta(minutes=10))
        trouble = keeping.keeper.trouble(keeping.clock.now())
        assert trouble == "no certificate: nobody signs"
        keeping.is_reachable = True
        keeping.clock.advance(timedelta(seconds=5))
        await once(keeping.keeper.newest, lambda newest: newest != svid)
        assert keeping.keeper.trouble(keeping.clock.now()) is None
        running.cancel()


class Recording:
    """An issuer that notes what it is asked, and fails while `failing` is set."""

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer
        self.failing: Denied | None = Denied("no more tokens", "make one")
        self.asked: list[tuple[bytes, SVID | None]] = []

    async def issue(
        self,
        identity: Identity,
        csr_pem: bytes,
        lifetime: timedelta,
        current: SVID | None = None,
    ) -> bytes:
        self.asked.append((csr_pem, current))
        if self.failing:
            raise self.failing
        return await self._issuer.issue(identity, csr_pem, lifetime, current)

    async def bundle(self) -> TrustBundle:
        return await self._issuer.bundle()


async def test_the_same_request_is_repeated_until_it_is_answered_and_renewals_show_what_is_held(
    tmp_path: Path, commits: Commits
) -> None:
    local = LocalIssuer(tmp_path / "ca", clock=QUICK, trust_domain="example.org")
    issuer = Recording(local)
    scope = Latest[Scope | None](await scope_of(commits, MESH.replace("LIFETIME", "1h")))
    authority = MeshIssuer(lambda _: issuer, scope)
    keeper = CertificateKeeper(authority, QUICK, WEB, scope)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(keeper.run())
        while len(issuer.asked) < 3:
            await QUICK.sleep(timedelta(milliseconds=50))
        assert keeper.trouble(QUICK.now()) == "no certificate: no more tokens (make one)"
        issuer.failing = None
        first = await once(keeper.newest, lambda svid: svid is not None)
        assert len(set(issuer.asked)) == 1
        assert keeper.trouble(QUICK.now()) is None
        scope.set(await scope_of(commits, MESH.replace("LIFETIME", "2h")))
        await once(keeper.newest, lambda svid: svid != first)
        running.cancel()
    last_csr, shown = issuer.asked[-1]
    assert shown == first
    assert last_csr != issuer.asked[0][0]
