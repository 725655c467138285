"""A sidecar's status as JSON bytes: what `sidecars/<id>/status` holds."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from mesh.diagnostics import Diagnostic, Position, Severity
from mesh.errors import Corrupted
from mesh.model.identity import ServiceName
from mesh.model.policy import Address
from mesh.model.status import SidecarStatus
from mesh.planning.record import serialize


def encode_status(status: SidecarStatus) -> bytes:
    """The bytes of a status; `decode_status` is the inverse."""
    expiry = status.certificate_not_after
    return serialize(
        {
            "id": status.id,
            "namespace": status.service.namespace,
            "service": status.service.name,
            "revision": status.revision,
            "seen": status.seen,
            "inbound": _address(status.inbound),
            "outbound": _address(status.outbound),
            "upstreams": [
                [name.namespace, name.name, address.address, address.port]
                for name, address in sorted(status.upstreams.items())
            ],
            "rejections": [write_diagnostic(item) for item in status.rejections],
            "stale": status.stale,
            "upgrade": status.upgrade,
            "certificate_not_after": None if expiry is None else expiry.isoformat(),
            "sockets": status.sockets,
            "app": _address(status.app),
            "app_accepts": status.is_app_accepting,
            "time": status.time.isoformat(),
        }
    )


def decode_status(data: bytes) -> SidecarStatus:
    """Read a status.

    Raises:
        Corrupted: it is not one.
    """
    try:
        value = json.loads(data)
        outbound = _read_address(value["outbound"])
        if outbound is None:
            raise ValueError("no outbound address")  # noqa: TRY301 (told with the others)
        expiry = value["certificate_not_after"]
        return SidecarStatus(
            id=value["id"],
            service=ServiceName(value["namespace"], value["service"]),
            revision=int(value["revision"]),
            seen=int(value["seen"]),
            inbound=_read_address(value["inbound"]),
            outbound=outbound,
            upstreams={
                ServiceName(namespace, name): Address(address, int(port))
                for namespace, name, address, port in value["upstreams"]
            },
            rejections=tuple(read_diagnostic(item) for item in value["rejections"]),
            stale=value["stale"],
            upgrade=value.get("upgrade"),
            certificate_not_after=None if expiry is None else datetime.fromisoformat(expiry),
            sockets=value["sockets"],
            app=_read_address(value.get("app")),  # agents before 0.2 say nothing of it
            is_app_accepting=value.get("app_accepts", True),
            time=datetime.fromisoformat(value["time"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Corrupted(f"a sidecar's status cannot be read: {error}") from error


def _address(address: Address | None) -> list[object] | None:
    return None if address is None else [address.address, address.port]


def _read_address(value: Any) -> Address | None:
    return None if value is None else Address(value[0], int(value[1]))


def write_diagnostic(item: Diagnostic) -> dict[str, object]:
    """A diagnostic as a JSON value; `read_diagnostic` is the inverse."""
    return {
        "at": _position(item.position),
        "severity": item.severity.value,
        "code": item.code,
        "message": item.message,
        "hint": item.hint,
        "related": [[_position(position), text] for position, text in item.related],
    }


def read_diagnostic(value: Mapping[str, Any]) -> Diagnostic:
    """A diagnostic from its JSON value; ValueError, KeyError or TypeError if it is none."""
    return Diagnostic(
        position=Position(*value["at"]),
        severity=Severity(value["severity"]),
        code=value["code"],
        message=value["message"],
        hint=value["hint"],
        related=tuple((Position(*at), text) for at, text in value["related"]),
    )


def _position(position: Position) -> list[object]:
    return [position.file, position.line, position.column]
