"""What a sidecar says when it answers by itself: `x-mesh-reason`.

Envoy knows why it answered by response flags; each is a mapper, and the first that fits wins.
Direct responses of routes carry their reason already. The name of a policy never leaves the mesh.
"""

from typing import Final

from mesh.compiler.generated import JSON, REASON_CONNECT, REASON_HEADER, REASON_RESET

# Envoy's response flags (access log, %RESPONSE_FLAGS%), most telling first: a request that timed
# out may have been reset as well.
_REASONS: Final = (
    ("no-route", ("NR",)),
    ("no-backend", ("NC",)),
    ("no-healthy-endpoint", ("UH",)),
    ("limit-reached", ("UO",)),
    ("timeout", ("UT", "SI", "DT", "UMSDR")),
    (REASON_CONNECT, ("UF",)),
    (REASON_RESET, ("UC", "UR", "LR", "UPE")),
    ("overloaded", ("OM", "DO")),
    ("bad-request", ("DPE", "IH")),
)


def local_replies() -> JSON:
    """The local replies of both sidecars. The caller's reads the callee's reason, too."""
    flags = [
        _mapper({"response_flag_filter": {"flags": list(flags)}}, reason)
        for reason, flags in _REASONS
    ]
    return {
        "mappers": [
            *flags,
            # Nothing but an access rule answers 403, and nothing else is left of a sidecar's own.
            _mapper(_status("EQ", 403), "access-denied"),
            _mapper(_status("GE", 500), "sidecar-error"),
            _mapper(_status("GE", 400), "bad-request"),
        ]
    }


def _mapper(condition: JSON, reason: str) -> JSON:
    added = {"header": {"key": REASON_HEADER, "value": reason}, "append_action": "ADD_IF_ABSENT"}
    return {"filter": condition, "headers_to_add": [added]}


def _status(operator: str, code: int) -> JSON:
    # The runtime key is required by the API and never set.
    value = {"default_value": code, "runtime_key": "mesh.unset"}
    return {"status_code_filter": {"comparison": {"op": operator, "value": value}}}
