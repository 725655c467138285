"""The trust domain is fixed when the certificate authority is made."""

import json

from mesh.documents import codec
from mesh.errors import Corrupted, InputError
from mesh.model.identity import DEFAULT_TRUST_DOMAIN
from mesh.model.policy import Kind, Mesh
from mesh.model.revision import Manifest
from mesh.planning import keyspace
from mesh.planning.plan import Plan, carry_out
from mesh.ports import Put, Store, Transaction


async def published_domain(store: Store) -> str | None:
    """The trust domain of the published trust bundle; None before there is one.

    Raises:
        Corrupted: the bundle cannot be read.
    """
    entry = (await store.fetch([keyspace.TRUST_BUNDLE])).get(keyspace.TRUST_BUNDLE)
    if entry is None:
        return None
    try:
        return str(json.loads(entry.value)["trust_domain"])
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupted(f"the trust bundle in the store cannot be read: {error}") from error


async def publish(store: Store, bundle: bytes) -> None:
    """Make `bundle` the published one, whatever was there: for a certificate authority that was
    made just now. Running sidecars add their own roots again.
    """
    await store.commit(Transaction(puts=(Put(keyspace.TRUST_BUNDLE, bundle),)))


async def check_trust_domain(store: Store, current: Manifest, plan: Plan) -> None:
    """Refuse a plan after which the Mesh names another domain than certificates carry.

    Raises:
        InputError: it would.
    """
    if not any(key.kind == Kind.MESH for key in plan.keys):
        return
    published = await published_domain(store)
    if published is None:
        return
    wanted, place = DEFAULT_TRUST_DOMAIN, ""
    for key, entry in carry_out(current, plan).items():
        if key.kind == Kind.MESH and entry.digest in plan.objects:
            policy = codec.decode(plan.objects[entry.digest])
            if isinstance(policy, Mesh):
                wanted, place = policy.trust_domain, f"{entry.position}: "
    if wanted != published:
        raise InputError(
            f'{place}the trust domain would become "{wanted}", but the certificates of this mesh '
            f'are of "{published}"',
            f'keep "trustDomain: {published}"; to move, stop every sidecar, put the folder "ca" of '
            f"the state aside, run `mesh ca init --trust-domain {wanted}`, apply, and start them",
        )
