import asyncio
import fcntl
import json
import os
import stat
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import structlog

from mesh.adapters.clock import SystemClock
from mesh.adapters.issuer import LocalIssuer
from mesh.ca.chain import read_certificates, read_svid
from mesh.ca.issuance import INTERMEDIATE_LIFETIME, ROOT_LIFETIME
from mesh.ca.linter import Role
from mesh.ca.request import new_key_and_csr
from mesh.ca.rotation import SETTLE
from mesh.ca.status import CertificateUse
from mesh.errors import CertificateRefused, InputError, NotFound, OutsideError, Unavailable
from mesh.model.identity import Identity, ServiceName
from tests.support.manual_clock import ManualClock

DAY = timedelta(hours=24)
WEB = Identity("mesh.local", ServiceName("default", "web"))


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "state" / "ca"


@pytest.fixture
def issuer(folder, clock):
    return LocalIssuer(folder, clock=clock)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def svid_of(issuer, clock, identity=WEB, lifetime=DAY):
    key_pem, csr = new_key_and_csr(identity)
    chain = await issuer.issue(identity, csr, lifetime)
    return read_svid(identity, chain, key_pem, await issuer.bundle(), clock.now())


async def test_an_svid_is_issued_on_first_use(issuer, clock):
    svid = await svid_of(issuer, clock)
    assert svid.not_after == clock.now() + DAY


async def test_the_files_are_private_whatever_the_umask(issuer, folder):
    before = os.umask(0)
    try:
        await issuer.bundle()
    finally:
        os.umask(before)
    assert (mode(folder), mode(folder.parent)) == (0o700, 0o700)
    assert {path.name: mode(path) for path in folder.iterdir()} == {"ca.json": 0o600, "lock": 0o600}


async def test_a_folder_open_to_others_is_closed(issuer, folder):
    folder.mkdir(parents=True, mode=0o755)
    await issuer.bundle()
    assert mode(folder) == 0o700


async def test_all_processes_share_what_the_first_one_made(folder):
    program = (
        "import asyncio, sys; from pathlib import Path\n"
        "from mesh.adapters.clock import SystemClock\n"
        "from mesh.adapters.issuer import LocalIssuer\n"
        "issuer = LocalIssuer(Path(sys.argv[1]), clock=SystemClock())\n"
        "sys.stdout.write(asyncio.run(issuer.bundle()).roots_pem.decode())\n"
    )
    command = [sys.executable, "-c", program, str(folder)]
    started = [
        await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        for _ in range(3)
    ]
    mine = [LocalIssuer(folder, clock=SystemClock()) for _ in range(8)]
    async with asyncio.TaskGroup() as tasks:
        bundles = [tasks.create_task(one.bundle()) for one in mine]
    found = {task.result().roots_pem for task in bundles}
    for process in started:
        async with asyncio.timeout(60):
            found.add((await process.communicate())[0])
        assert process.returncode == 0
    assert len(found) == 1
    assert len(read_certificates(found.pop())) == 1


async def test_a_second_issuer_on_the_files_signs_under_the_same_root(issuer, folder, clock):
    bundle = await issuer.bundle()
    again = LocalIssuer(folder, clock=clock)
    assert await again.bundle() == bundle
    await svid_of(again, clock)


# --- trust domain ---------------------------------------------------------------------------


async def test_the_trust_domain_is_fixed_when_the_authority_is_made(folder, clock):
    await LocalIssuer(folder, clock=clock, trust_domain="prod.example").bundle()
    other = LocalIssuer(folder, clock=clock, trust_domain="mesh.local")
    with pytest.raises(InputError) as refusal:
        await other.bundle()
    assert '"prod.example", not "mesh.local"' in refusal.value.message
    assert "to migrate" in refusal.value.hint
    assert str(folder) in refusal.value.hint


async def test_an_identity_of_another_trust_domain_is_refused(issuer):
    identity = Identity("other.example", WEB.service)
    with pytest.raises(InputError, match=r'"mesh\.local", not "other\.example"'):
        await issuer.issue(identity, new_key_and_csr(identity)[1], DAY)


async def test_an_issuer_that_names_no_trust_domain_takes_the_authoritys(folder, clock):
    await LocalIssuer(folder, clock=clock, trust_domain="prod.example").bundle()
    assert (await LocalIssuer(folder, clock=clock).bundle()).trust_domain == "prod.example"


async def test_a_bad_trust_domain_makes_nothing(folder, clock):
    with pytest.raises(CertificateRefused, match="lower-case"):
        await LocalIssuer(folder, clock=clock, trust_domain="Prod").bundle()
    assert not (folder / "ca.json").exists()


# --- refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize("lifetime", [timedelta(), timedelta(days=400)])
async def test_a_refused_lifetime_changes_nothing(issuer, folder, lifetime):
    await issuer.bundle()
    before = (folder / "ca.json").read_bytes()
    with pytest.raises(CertificateRefused, match="lifetime"):
        await issuer.issue(WEB, new_key_and_csr(WEB)[1], lifetime)
    assert (folder / "ca.json").read_bytes() == before


async def test_a_refused_request_is_refused(issuer):
    with pytest.raises(CertificateRefused, match="PKCS #10"):
        await issuer.issue(WEB, b"nonsense", DAY)


# --- init, rotate, status -------------------------------------------------------------------


async def test_init_makes_the_authority_once(issuer):
    status = await issuer.init()
    assert [(one.role, one.use) for one in status.certificates] == [
        (Role.ROOT, CertificateUse.IN_USE),
        (Role.INTERMEDIATE, CertificateUse.IN_USE),
    ]
    assert await issuer.status() == status
    with pytest.raises(InputError, match="already"):
        await issuer.init()


async def test_status_and_rotate_make_nothing(issuer, folder):
    with pytest.raises(NotFound, match="no certificate authority"):
        await issuer.status()
    with pytest.raises(NotFound):
        await issuer.rotate()
    with pytest.raises(NotFound):
        await issuer.activate()
    assert not (folder / "ca.json").exists()


async def test_status_tells_fingerprints_and_ends(issuer, clock):
    root, intermediate = (await issuer.init()).certificates
    assert root.fingerprint.startswith("sha256:")
    assert root.not_after == clock.now() + ROOT_LIFETIME
    assert intermediate.not_after == clock.now() + INTERMEDIATE_LIFETIME


async def test_rotate_replaces_the_intermediate_only(issuer, clock):
    before = (await issuer.init()).certificates
    bundle = await issuer.bundle()
    after = (await issuer.rotate()).certificates
    assert after[0] == before[0]
    assert after[1].fingerprint != before[1].fingerprint
    assert await issuer.bundle() == bundle
    await svid_of(issuer, clock)


async def test_a_new_root_takes_over_in_time_by_itself(issuer, clock):
    old_bundle = await issuer.bundle()
    old = await svid_of(issuer, clock)
    prepared = (await issuer.rotate(root=True)).certificates[1]
    assert prepared.use is CertificateUse.PREPARED
    assert prepared.until == clock.now() + SETTLE
    both = await issuer.bundle()
    assert both.roots_pem.startswith(old_bundle.roots_pem)
    assert len(read_certificates(both.roots_pem)) == 2

    clock.advance(SETTLE)
    new = await svid_of(issuer, clock)
    new_root, retiring = (await issuer.status()).certificates[:2]
    assert new_root.fingerprint == prepared.fingerprint
    assert retiring.use is CertificateUse.RETIRING
    read_svid(WEB, new.chain_pem, new.private_key_pem, both, clock.now())
    with pytest.raises(CertificateRefused, match="no root"):
        read_svid(WEB, new.chain_pem, new.private_key_pem, old_bundle, clock.now())

    clock.advance(retiring.until - clock.now())
    assert len(read_certificates((await issuer.bundle()).roots_pem)) == 1
    with pytest.raises(CertificateRefused, match="no root"):
        read_svid(WEB, old.chain_pem, old.private_key_pem, await issuer.bundle(), clock.now())


async def test_a_prepared_root_may_be_activated_at_once(issuer):
    prepared = (await issuer.init()).certificates[0]
    prepared = (await issuer.rotate(root=True)).certificates[1]
    status = await issuer.activate()
    assert status.certificates[0].fingerprint == prepared.fingerprint
    with pytest.raises(InputError, match="no root is prepared"):
        await issuer.activate()


async def test_a_second_root_waits_for_the_first(issuer):
    await issuer.init()
    await issuer.rotate(root=True)
    with pytest.raises(InputError, match="prepared already"):
        await issuer.rotate(root=True)


async def test_the_intermediate_is_renewed_on_use(issuer, clock):
    before = (await issuer.init()).certificates[1]
    clock.advance(INTERMEDIATE_LIFETIME * 0.6)
    await svid_of(issuer, clock)
    after = (await issuer.status()).certificates[1]
    assert after.not_after > before.not_after


async def test_a_rotation_by_another_process_is_seen(issuer, folder, clock):
    await issuer.init()
    await LocalIssuer(folder, clock=clock).rotate(root=True)
    assert len(read_certificates((await issuer.bundle()).roots_pem)) == 2


# --- bad days -------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"{}", b"\0" * 4096, b'{"version": 9}', b"[1]"])
async def test_a_damaged_file_is_named_and_left_alone(issuer, folder, content):
    await issuer.init()
    (folder / "ca.json").write_bytes(content)
    for attempt in (issuer.bundle(), issuer.status(), issuer.rotate(), issuer.init()):
        with pytest.raises(OutsideError, match=r"ca\.json\" is damaged") as refusal:
            await attempt
        assert refusal.value.exit_code == 3
        assert "backup" in refusal.value.hint
    assert (folder / "ca.json").read_bytes() == content


async def test_an_authority_that_vanishes_is_not_made_anew(issuer, folder, clock):
    roots = (await issuer.bundle()).roots_pem
    (folder / "ca.json").rename(folder / "kept.json")
    with pytest.raises(OutsideError, match="is gone"):
        await issuer.bundle()
    with pytest.raises(OutsideError, match="is gone"):
        await svid_of(issuer, clock)
    (folder / "kept.json").rename(folder / "ca.json")
    assert (await issuer.bundle()).roots_pem == roots


async def test_a_file_that_others_may_read_is_refused(issuer, folder):
    await issuer.init()
    (folder / "ca.json").chmod(0o640)
    with pytest.raises(OutsideError, match="0640") as refusal:
        await issuer.bundle()
    assert "chmod 600" in refusal.value.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="only root writes what belongs to others")
async def test_what_root_changes_stays_its_owners(clock, tmp_path):
    """`mesh ca rotate` by root, beside a service that runs as somebody else."""
    nobody = 65534
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, nobody, nobody)
    issuer = LocalIssuer(state / "ca", clock=clock)
    await issuer.init()
    await issuer.rotate()
    owners = {path.name: path.stat().st_uid for path in (state, *state.rglob("*"))}
    assert owners == dict.fromkeys(("state", "ca", "ca.json", "lock"), nobody)


async def test_a_folder_that_is_a_file_is_named(folder, issuer):
    folder.parent.mkdir()
    folder.write_text("")
    with pytest.raises(OutsideError, match="certificate authority") as refusal:
        await issuer.bundle()
    assert str(folder) in refusal.value.message


async def test_a_folder_that_cannot_be_written_is_named(clock):
    # /proc takes no folders, from root either.
    issuer = LocalIssuer(Path("/proc/mesh-ca"), clock=clock)
    with pytest.raises(OutsideError, match=r'cannot write .*"/proc/mesh-ca"'):
        await issuer.bundle()


async def test_a_write_that_fails_half_way_leaves_the_old_state(issuer, folder, clock):
    before = await issuer.init()
    # The name of the temporary file is taken by a folder: making the file fails.
    (folder / f".ca.json.{os.getpid()}").mkdir()
    with pytest.raises(OutsideError, match="cannot write"):
        await issuer.rotate()
    assert await issuer.status() == before


async def test_a_state_that_cannot_be_changed_still_signs(issuer, folder, clock):
    await issuer.init()
    await svid_of(issuer, clock)
    await issuer.rotate(root=True)
    (folder / f".ca.json.{os.getpid()}").mkdir()
    clock.advance(SETTLE)
    with structlog.testing.capture_logs() as logs:
        svid = await svid_of(issuer, clock)
    assert svid.not_after == clock.now() + DAY
    assert logs[0]["event"] == "certificate authority cannot be changed"


async def test_a_lock_that_nobody_gives_back_is_not_waited_for_forever(issuer, folder, clock):
    await issuer.init()
    with (folder / "lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        async with asyncio.TaskGroup() as tasks:
            attempt = tasks.create_task(_refusal(issuer.rotate()))
            while not attempt.done():
                await asyncio.sleep(0)  # noqa: TID251 - lets the attempt come to its sleep
                if clock.sleepers:
                    clock.advance(timedelta(seconds=3))
    assert isinstance(attempt.result(), Unavailable)
    await issuer.rotate()


async def _refusal(attempt):
    with pytest.raises(OutsideError) as refusal:
        await attempt
    return refusal.value


async def test_keys_are_in_no_log_and_no_repr(issuer, folder, clock):
    with structlog.testing.capture_logs() as logs:
        await issuer.init()
        await issuer.rotate(root=True)
        clock.advance(SETTLE)
        svid = await svid_of(issuer, clock)
    shown = f"{logs!r} {svid!r} {issuer!r} {await issuer.status()!r} {issuer._files._cached!r}"
    document = json.loads((folder / "ca.json").read_text())
    keys = [document[name]["private_key"] for name in ("root", "intermediate")]
    keys.append(svid.private_key_pem.decode())
    assert logs
    assert "PRIVATE KEY" not in shown
    for key in keys:
        assert key.splitlines()[1] not in shown
