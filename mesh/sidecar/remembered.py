"""What a sidecar keeps on disk, as JSON and back."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mesh.ca.bundle import read_bundle, write_bundle
from mesh.documents import codec
from mesh.model.catalog import Catalog, Endpoint, Health
from mesh.model.identity import SVID, Identity, ServiceName, TrustBundle
from mesh.model.revision import Applied
from mesh.planning import manifest, record
from mesh.planning.manifest import Part
from mesh.sidecar.policies import Scope

JSON = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What a sidecar knew when it last knew something; a part that is missing is None."""

    scope: Scope | None = None
    catalog: Catalog | None = None
    svid: SVID | None = None
    bundle: TrustBundle | None = None


def write_scope(scope: Scope) -> JSON:
    """A scope in the store's own form: a record, the parts it leads to, the objects."""
    if scope.head is None:
        return {"record": None}
    entries = {key: applied.entry for key, applied in scope.policies.items()}
    head = scope.head
    written = manifest.write(entries, head.revision, head.change, head.origin)
    return {
        "record": written.record.decode(),
        "parts": {digest: data.decode() for digest, data in written.parts.items()},
        "objects": {digest: data.decode() for digest, data in scope.objects.items()},
    }


def read_scope(content: JSON) -> Scope:
    """The inverse of `write_scope`; fails like any parser on what it did not write."""
    if content["record"] is None:
        return Scope()
    head = record.parse_record(content["record"].encode())
    parts: dict[str, Part] = {
        digest: manifest.parse_part(digest, text.encode())
        for digest, text in content["parts"].items()
    }
    objects = {digest: text.encode() for digest, text in content["objects"].items()}
    policies = {
        key: Applied(policy=codec.decode(objects[entry.digest]), entry=entry)
        for key, entry in manifest.assemble(head, parts).items()
    }
    return Scope(head, policies, objects)


def write_catalog(catalog: Catalog) -> JSON:
    """A catalog as JSON; whether it was stale is not kept."""
    return {
        "endpoints": [
            _endpoint(endpoint)
            for _, endpoints in sorted(catalog.endpoints.items())
            for endpoint in endpoints
        ],
        "watched": sorted([name.namespace, name.name] for name in catalog.endpoints),
        "names": sorted([name.namespace, name.name] for name in catalog.names),
    }


def read_catalog(content: JSON) -> Catalog:
    """The inverse of `write_catalog`."""
    endpoints: dict[ServiceName, tuple[Endpoint, ...]] = {
        ServiceName(*name): () for name in content["watched"]
    }
    for item in content["endpoints"]:
        endpoint = _read_endpoint(item)
        endpoints[endpoint.service] = (*endpoints[endpoint.service], endpoint)
    return Catalog(endpoints, frozenset(ServiceName(*name) for name in content["names"]))


def write_certificate(svid: SVID | None, bundle: TrustBundle | None) -> JSON:
    """The leaf, its key and the trust bundle: for a file of mode 0600 and nothing else."""
    return {
        "svid": None
        if svid is None
        else {
            "trust_domain": svid.identity.trust_domain,
            "service": [svid.identity.service.namespace, svid.identity.service.name],
            "chain": svid.chain_pem.decode(),
            "key": svid.private_key_pem.decode(),
            "not_before": svid.not_before.isoformat(),
            "not_after": svid.not_after.isoformat(),
        },
        "bundle": None if bundle is None else write_bundle(bundle),
    }


def read_certificate(content: JSON) -> tuple[SVID | None, TrustBundle | None]:
    """The inverse of `write_certificate`."""
    item, bundle = content["svid"], content["bundle"]
    svid = item and SVID(
        identity=Identity(item["trust_domain"], ServiceName(*item["service"])),
        chain_pem=item["chain"].encode(),
        private_key_pem=item["key"].encode(),
        not_before=datetime.fromisoformat(item["not_before"]),
        not_after=datetime.fromisoformat(item["not_after"]),
    )
    return svid, bundle and read_bundle(bundle)


def _endpoint(endpoint: Endpoint) -> JSON:
    return {
        "id": endpoint.id,
        "service": [endpoint.service.namespace, endpoint.service.name],
        "address": endpoint.address,
        "port": endpoint.port,
        "meta": dict(endpoint.meta),
        "tags": sorted(endpoint.tags),
        "datacenter": endpoint.datacenter,
        "health": endpoint.health.value,
    }


def _read_endpoint(item: JSON) -> Endpoint:
    return Endpoint(
        id=item["id"],
        service=ServiceName(*item["service"]),
        address=item["address"],
        port=int(item["port"]),
        meta=item["meta"],
        tags=frozenset(item["tags"]),
        datacenter=item["datacenter"],
        health=Health(item["health"]),
    )
