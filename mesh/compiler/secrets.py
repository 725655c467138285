"""Secrets: the sidecar's own leaf, and what its peers' leaves are verified against."""

from mesh.compiler import handshakes
from mesh.compiler.generated import CALLERS_SECRET, JSON, PEERS_SECRET, SVID_SECRET, Generated
from mesh.compiler.view import View
from mesh.diagnostics import Position
from mesh.model.identity import SVID, TrustBundle
from mesh.model.snapshot import ResourceType


def secrets(view: View) -> list[Generated]:
    """What there is of `svid` and `peers`; for a TCP service `callers` too."""
    found = []
    if view.svid is not None:
        found.append(_leaf(view.svid))
    if view.bundle is not None:
        found.append(_validation(PEERS_SECRET, view.bundle, {}))
    if view.bundle is not None and view.inbound is not None and not view.inbound.protocol.is_http:
        places = tuple(position for _, position in view.inbound.access)
        callers = handshakes.welcome(view.trust_domain, view.inbound)
        matchers = {"match_typed_subject_alt_names": callers}
        found.append(_validation(CALLERS_SECRET, view.bundle, matchers, places))
    return found


def _leaf(svid: SVID) -> Generated:
    certificate = {
        "certificate_chain": {"inline_string": svid.chain_pem.decode()},
        "private_key": {"inline_string": svid.private_key_pem.decode()},
    }
    return Generated(
        type=ResourceType.SECRET,
        name=SVID_SECRET,
        json={"name": SVID_SECRET, "tls_certificate": certificate},
    )


def _validation(
    name: str, bundle: TrustBundle, matchers: JSON, sources: tuple[Position, ...] = ()
) -> Generated:
    """Envoy's SPIFFE validator: the roots of each trust domain for its own leaves only, and no
    CA certificate as a leaf (SPIFFE X.509-SVID sections 5.1 and 5.2).
    """
    domain = {
        "name": bundle.trust_domain,
        "trust_bundle": {"inline_string": bundle.roots_pem.decode()},
    }
    validator = {
        "name": "envoy.tls.cert_validator.spiffe",
        "typed_config": {
            "@type": "type.googleapis.com/"
            "envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig",
            "trust_domains": [domain],
        },
    }
    return Generated(
        type=ResourceType.SECRET,
        name=name,
        json={
            "name": name,
            "validation_context": {"custom_validator_config": validator, **matchers},
        },
        sources=sources,
    )
