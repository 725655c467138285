"""The line of a sidecar that serves. Apart from `render`: an agent keeps in memory for good what
it imports for its one line.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mesh.cli.console import JSON
from mesh.model.identity import ServiceName
from mesh.model.policy import Address

if TYPE_CHECKING:
    from mesh.sidecar.ports import Ready


def address_text(address: Address | None) -> str | None:
    """`host:port`, an IPv6 host in brackets."""
    if address is None:
        return None
    host = f"[{address.address}]" if ":" in address.address else address.address
    return f"{host}:{address.port}"


def upstream_name(service: ServiceName) -> str:
    """A TCP service as users name it: `ledger.shop`."""
    return f"{service.name}.{service.namespace}"


def ready_text(ready: "Ready") -> str:
    """The line of a sidecar that serves."""
    facts = {
        "service": ready.service,
        "id": ready.id,
        "inbound": address_text(ready.inbound) or "-",
        "outbound": address_text(ready.outbound),
        "revision": ready.revision,
    }
    if ready.upstreams:
        facts["upstreams"] = ",".join(
            f"{k}={v}" for k, v in upstreams_json(ready.upstreams).items()
        )
    if ready.metrics is not None:
        facts["metrics"] = address_text(ready.metrics)
    return " ".join(["ready", *(f"{name}={value}" for name, value in facts.items())])


def ready_json(ready: "Ready") -> str:
    """The same for programs: one object in one line."""
    return json.dumps(
        {
            "ready": True,
            "service": ready.service.name,
            "namespace": ready.service.namespace,
            "id": ready.id,
            "inbound": address_text(ready.inbound),
            "outbound": address_text(ready.outbound),
            "upstreams": upstreams_json(ready.upstreams),
            "revision": ready.revision,
            "metrics": address_text(ready.metrics),
        }
    )


def upstreams_json(upstreams: Mapping[ServiceName, Address]) -> dict[str, JSON]:
    """TCP services and where they listen, as every JSON shape has them."""
    return {
        upstream_name(name): address_text(address) for name, address in sorted(upstreams.items())
    }
