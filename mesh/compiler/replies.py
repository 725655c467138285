"""What a sidecar says when it answers by itself: `x-mesh-reason`, and how the application failed.

Envoy knows why it answered by response flags; each is a mapper, and the first that fits wins.
Direct responses of routes carry their reason already. The name of a policy never leaves the mesh.
"""

from typing import Any, Final

from mesh.compiler.generated import (
    FAILURE_CONNECT,
    FAILURE_HEADER,
    FAILURE_RESET,
    JSON,
    REASON_HEADER,
)

# Envoy's response flags (access log, %RESPONSE_FLAGS%), most telling first: a request that timed
# out may have been reset as well.
_REASONS: Final = (
    ("no-route", ("NR",)),
    ("no-backend", ("NC",)),
    ("no-healthy-endpoint", ("UH",)),
    ("limit-reached", ("UO",)),
    ("timeout", ("UT", "SI", "DT", "UMSDR")),
    ("connect-failure", ("UF",)),
    ("reset", ("UC", "UR", "LR", "UPE")),
    ("overloaded", ("OM", "DO")),
    ("bad-request", ("DPE", "IH")),
)
_FAILURES: Final = {"connect-failure": FAILURE_CONNECT, "reset": FAILURE_RESET}


def outbound() -> JSON:
    """The local replies of the caller's sidecar."""
    return {"mappers": _mappers(failures={})}


def inbound() -> JSON:
    """The local replies of the callee's sidecar, which also say to the caller's how the
    application failed: over two hops a reset is an ordinary 503 otherwise.
    """
    return {"mappers": _mappers(failures=_FAILURES)}


def _mappers(failures: dict[str, str]) -> list[JSON]:
    flags = [
        _mapper(
            {"response_flag_filter": {"flags": list(flags)}},
            _headers(reason, failures.get(reason)),
        )
        for reason, flags in _REASONS
    ]
    return [
        *flags,
        # Nothing but an access rule answers 403, and nothing else is left of a sidecar's own.
        _mapper(_status("EQ", 403), _headers("access-denied")),
        _mapper(_status("GE", 500), _headers("sidecar-error")),
        _mapper(_status("GE", 400), _headers("bad-request")),
    ]


def _mapper(condition: JSON, headers: list[JSON]) -> JSON:
    return {"filter": condition, "headers_to_add": headers}


def _status(operator: str, code: int) -> JSON:
    # The runtime key is required by the API and never set.
    value = {"default_value": code, "runtime_key": "mesh.unset"}
    return {"status_code_filter": {"comparison": {"op": operator, "value": value}}}


def _headers(reason: str, failure: str | None = None) -> list[JSON]:
    added = [_header(REASON_HEADER, reason, "ADD_IF_ABSENT")]
    if failure is not None:
        added.append(_header(FAILURE_HEADER, failure, "OVERWRITE_IF_EXISTS_OR_ADD"))
    return added


def _header(name: str, value: str, append: str) -> dict[str, Any]:
    return {"header": {"key": name, "value": value}, "append_action": append}
