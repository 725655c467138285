"""The trust bundle: published under one key of the store, watched by everyone.

A sidecar adds the roots of its issuer that the store lacks, and takes out those that it saw its
issuer retire. Roots of other issuers stay, so that hosts with authorities of their own trust one
another.
"""

import asyncio
import json
import re
from collections.abc import Collection
from datetime import timedelta

import structlog

from mesh.errors import Conflict, MeshError
from mesh.latest import Latest
from mesh.model.identity import TrustBundle
from mesh.planning import keyspace, record
from mesh.ports import Clock, Issuer, Put, Store, Transaction
from mesh.sidecar.remembered import read_bundle, write_bundle
from mesh.sidecar.retry import Outage, until_done
from mesh.sidecar.waiting import closing, set_within

# How soon a root that the operator added at the issuer reaches the others.
_LOOK = timedelta(seconds=10)

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_log = structlog.get_logger(__name__)


class TrustSource:
    """The bundle to verify peers with, in `newest`: the store's, and our issuer's roots.

    Where the store is out of reach, the last known; None until one is known.
    """

    def __init__(
        self, store: Store, issuer: Issuer, clock: Clock, remembered: TrustBundle | None = None
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
            tasks.create_task(self._merge())

    async def _watch(self) -> None:
        async with closing(self._store.watch(keyspace.TRUST_BUNDLE)) as states:
            async for watched in states:
                if watched.lost is not None:
                    continue
                entry = watched.entries.get(keyspace.TRUST_BUNDLE)
                self._version = entry.version if entry else 0
                self._published = read_bundle(json.loads(entry.value)) if entry else None
                self._wake.set()

    async def _merge(self) -> None:
        outage = Outage("certificate authority")
        while True:
            # The issuer is asked again whenever the store changed: it may have dropped a root too.
            issued = await until_done(self._clock, outage, self._issuer.bundle)
            self._note(issued)
            merged = union(issued, self._published, self._retired)
            self.newest.set(merged)
            if self._version is not None and merged != self._published:
                await self._publish(merged, self._version)
            await set_within(self._wake, _LOOK)
            self._wake.clear()

    def _note(self, issued: TrustBundle) -> None:
        before = _roots(self._issued) if self._issued else frozenset()
        self._retired = (self._retired | before) - _roots(issued)
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


def union(
    issued: TrustBundle, published: TrustBundle | None, retired: Collection[bytes] = ()
) -> TrustBundle:
    """Both bundles' roots, each once, the published first, without those in `retired`; the
    issuer's alone where the published bundle is of another trust domain.
    """
    if published is None or published.trust_domain != issued.trust_domain:
        return issued
    known = _PEM.findall(published.roots_pem)
    merged = [root for root in dict.fromkeys(known) if root not in retired]
    merged += [root for root in _PEM.findall(issued.roots_pem) if root not in merged]
    if merged == known:
        return published
    return TrustBundle(issued.trust_domain, b"".join(root + b"\n" for root in merged))


def _roots(bundle: TrustBundle) -> frozenset[bytes]:
    return frozenset(_PEM.findall(bundle.roots_pem))
