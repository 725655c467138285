"""Secrets: the sidecar's own leaf, and what its peers' leaves are verified against."""

from mesh.compiler.generated import PEERS_SECRET, SVID_SECRET, Generated
from mesh.compiler.view import View
from mesh.model.identity import SVID, TrustBundle
from mesh.model.snapshot import ResourceType


def secrets(view: View) -> list[Generated]:
    """What there is of `svid` and `peers`."""
    found = []
    if view.svid is not None:
        found.append(_leaf(view.svid))
    if view.bundle is not None:
        found.append(_peers(view.bundle))
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


def _peers(bundle: TrustBundle) -> Generated:
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
        name=PEERS_SECRET,
        json={"name": PEERS_SECRET, "validation_context": {"custom_validator_config": validator}},
    )
