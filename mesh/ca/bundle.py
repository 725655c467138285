"""Trust bundles: as JSON, and two of them made one."""

import re
from collections.abc import Collection, Mapping
from typing import Any

from mesh.model.identity import TrustBundle

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


def write_bundle(bundle: TrustBundle) -> dict[str, Any]:
    """A trust bundle as it lies in the store, on disk and in the authority's answers."""
    return {"trust_domain": bundle.trust_domain, "roots": bundle.roots_pem.decode()}


def read_bundle(content: Mapping[str, Any]) -> TrustBundle:
    """The inverse of `write_bundle`; KeyError, TypeError or AttributeError if it is none."""
    return TrustBundle(content["trust_domain"], content["roots"].encode())


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


def roots(bundle: TrustBundle) -> frozenset[bytes]:
    """Each root's PEM."""
    return frozenset(_PEM.findall(bundle.roots_pem))
