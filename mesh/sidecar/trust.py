"""The trust bundle: published under one key of the store, watched by everyone.

A sidecar adds the roots of its issuer that the store lacks, and takes out those that it saw its
issuer retire. Roots of other issuers stay, so that hosts with authorities of their own trust one
another. Where the authority is a service, it publishes itself and a sidecar only follows.
"""

import asyncio
import json
from datetime import timedelta

import structlog

from mesh.ca.bundle import read_bundle, roots, union, write_bundle
from mesh.errors import Conflict, MeshError
from mesh.latest import Latest
from mesh.model.identity import TrustBundle
from mesh.planning import keyspace, record
from mesh.ports import Clock, Issuer, Put, Store, Transaction
from mesh.sidecar.retry import Outage, until_done
from mesh.sidecar.waiting import closing, set_within

# How soon a root that the operator added at the issuer reaches the others.
_LOOK = timedelta(seconds=10)

_log = structlog.get_logger(__name__)


class TrustSource:
    """The bundle to verify peers with, in `newest`: the store's, and our issuer's roots.

    Where the store is out of reach, the last known; None until one is known. Without an `issuer`
    the store's alone counts: the authority publishes it.
    """

    def __init__(
        self,
        store: Store,
        issuer: Issuer | None,
        clock: Clock,
        remembered: TrustBundle | None = None,
    ) -> None:
        self._store = store
        self._issuer = issuer
        self._clock = clock
        self._published: TrustBundle | None = remembered
        self._version: int | None = None  # of the key in the store; None: not seen yet
        self._issued: TrustBundle | None = None
        self._retired: frozenset[bytes] = frozenset()
        self._wake = asyncio.Event()
        self.newest: Latest[TrustBundle | None] = Latest(remembered)

    async def run(self) -> None:
        """Follow and publish until cancelled."""
        self._wake.set()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch())
            if self._issuer is not None:
                tasks.create_task(self._merge(self._issuer))

    async def _watch(self) -> None:
        async with closing(self._store.watch(keyspace.TRUST_BUNDLE)) as states:
            async for watched in states:
                if watched.lost is not None:
                    continue
                entry = watched.entries.get(keyspace.TRUST_BUNDLE)
                self._version = entry.version if entry else 0
                self._published = read_bundle(json.loads(entry.value)) if entry else None
                if self._issuer is None and self._published is not None:
                    self.newest.set(self._published)
                self._wake.set()

    async def _merge(self, issuer: Issuer) -> None:
        outage = Outage("certificate authority")
        while True:
            # The issuer is asked again whenever the store changed: it may have dropped a root too.
            issued = await until_done(self._clock, outage, issuer.bundle)
            self._note(issued)
            merged = union(issued, self._published, self._retired)
            self.newest.set(merged)
            if self._version is not None and merged != self._published:
                await self._publish(merged, self._version)
            await set_within(self._wake, _LOOK)
            self._wake.clear()

    def _note(self, issued: TrustBundle) -> None:
        before = roots(self._issued) if self._issued else frozenset()
        self._retired = (self._retired | before) - roots(issued)
        self._issued = issued

    async def _publish(self, bundle: TrustBundle, version: int) -> None:
        value = record.serialize(write_bundle(bundle))
        key = keyspace.TRUST_BUNDLE
        try:
            await self._store.commit(Transaction(expect={key: version}, puts=(Put(key, value),)))
        except Conflict:
            return  # somebody else published first; the watch tells what
        except MeshError as error:
            _log.warning("the trust bundle was not published", reason=error.message)
        else:
            _log.info("published the trust bundle", trust_domain=bundle.trust_domain)
