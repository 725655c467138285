"""What the service keeps in the store: the trust bundle, and where and how it is itself.

Roots of other authorities stay in the bundle, so that a mesh can move from authorities on its
hosts to this one; roots that this one gave up are taken out.
"""

import json
import secrets
from datetime import timedelta

import structlog
from cryptography import x509

from mesh.ca import bundle as bundles
from mesh.ca.chain import fingerprint, read_certificates
from mesh.ca.service import ServiceStatus, read_status, write_status
from mesh.errors import CertificateRefused, Conflict, Corrupted, InputError, LeaseLost
from mesh.model.identity import TrustBundle
from mesh.planning import keyspace, record
from mesh.ports import Entry, LeaseId, Put, Store, Transaction

ALIVE_TTL = timedelta(seconds=20)
_TRIES = 10

_log = structlog.get_logger(__name__)


class Publication:
    """One service's keys in the store. Every method raises what the store raises."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._own = secrets.token_hex(8).encode()
        self._lease: LeaseId | None = None

    async def publish(self, bundle: TrustBundle, status: ServiceStatus) -> None:
        """Bring the store up to date, and say that this service lives.

        Raises:
            InputError: the store is of another mesh.
            Conflict: another authority serves this mesh.
        """
        for _ in range(_TRIES):
            try:
                await self._lease_again()
                return await self._write(bundle, status)
            except (_Race, LeaseLost):
                continue
        raise Conflict("the state of the certificate authority changes too often to be written")

    async def withdraw(self) -> None:
        """Say that this service is gone; what it published stays."""
        alive = (await self._store.fetch([keyspace.CA_ALIVE])).get(keyspace.CA_ALIVE)
        if alive is not None and alive.value == self._own:
            expect = {keyspace.CA_ALIVE: alive.version}
            await self._store.commit(Transaction(expect=expect, deletes=(keyspace.CA_ALIVE,)))

    async def _lease_again(self) -> None:
        try:
            self._lease = await self._store.lease(ALIVE_TTL, self._lease)
        except LeaseLost:
            self._lease = await self._store.lease(ALIVE_TTL)

    async def _write(self, bundle: TrustBundle, status: ServiceStatus) -> None:
        keys = (keyspace.TRUST_BUNDLE, keyspace.CA_STATUS, keyspace.CA_ALIVE)
        found = await self._store.fetch(keys)
        before = _status(found.get(keyspace.CA_STATUS))
        alive = found.get(keyspace.CA_ALIVE)
        if alive is not None and alive.value != self._own:
            _check_other(before, status)
        merged = _merged(bundle, found.get(keyspace.TRUST_BUNDLE), before)
        wanted = {
            keyspace.TRUST_BUNDLE: record.serialize(bundles.write_bundle(merged)),
            keyspace.CA_STATUS: write_status(status),
            keyspace.CA_ALIVE: self._own,
        }
        changed = [key for key in keys if key not in found or found[key].value != wanted[key]]
        if not changed:
            return
        puts = tuple(
            Put(key, wanted[key], self._lease if key == keyspace.CA_ALIVE else None)
            for key in changed
        )
        expect = {key: found[key].version if key in found else 0 for key in keys}
        try:
            await self._store.commit(Transaction(expect=expect, puts=puts))
        except Conflict as error:
            raise _Race from error
        if keyspace.TRUST_BUNDLE in changed:
            count = len(bundles.roots(merged))
            _log.info("published the trust bundle", trust_domain=bundle.trust_domain, roots=count)


class _Race(Exception):
    """Somebody wrote between reading and writing."""


def fingerprints(bundle: TrustBundle) -> tuple[str, ...]:
    """The fingerprints of a bundle's roots, in its order."""
    return tuple(fingerprint(root) for root in read_certificates(bundle.roots_pem))


def _merged(own: TrustBundle, entry: Entry | None, before: ServiceStatus | None) -> TrustBundle:
    """What the store shall have: without roots that were ours and are not any more."""
    if entry is None:
        return own
    try:
        published = bundles.read_bundle(json.loads(entry.value))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Corrupted(
            f"the trust bundle in the store cannot be read: {error!r}",
            f'delete the key "{keyspace.TRUST_BUNDLE}": it is written again',
        ) from error
    if published.trust_domain != own.trust_domain:
        raise InputError(
            f'the store is of the mesh "{published.trust_domain}", this certificate authority '
            f'signs for "{own.trust_domain}"',
            "see MESH_STORE and MESH_STATE: one of them is another mesh's",
        )
    return bundles.union(own, published, _retired(own, published, before))


def _retired(
    own: TrustBundle, published: TrustBundle, before: ServiceStatus | None
) -> frozenset[bytes]:
    """The published roots that this authority gave up: it told them last, and has gone on from
    them. One that is newer than its own it does not know (it was restored from a backup), and a
    status without any root of its own is another authority's (it was made anew): certificates
    under those live.
    """
    mine = set(fingerprints(own))
    told = set(before.roots) if before else set()
    if not told & mine:
        return frozenset()
    in_use = read_certificates(own.roots_pem)[0].not_valid_before_utc
    return frozenset(
        root_pem
        for root_pem in bundles.roots(published)
        for root in _readable(root_pem)
        if fingerprint(root) in told - mine and root.not_valid_before_utc <= in_use
    )


def _readable(root_pem: bytes) -> tuple[x509.Certificate, ...]:
    try:
        return read_certificates(root_pem)
    except CertificateRefused:
        return ()


def _status(entry: Entry | None) -> ServiceStatus | None:
    try:
        return read_status(entry.value) if entry else None
    except ValueError:
        return None  # another version's: replaced


def _check_other(before: ServiceStatus | None, own: ServiceStatus) -> None:
    """A second process with the same roots is the next one of this service; any other is not."""
    if before is not None and not set(before.roots) & set(own.roots):
        raise Conflict(
            f'another certificate authority serves this mesh, at "{before.url}"',
            "stop it first; its roots stay trusted until they are taken out of the bundle",
        )
