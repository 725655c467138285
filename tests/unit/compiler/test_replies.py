"""What a sidecar's own answers say. Whether Envoy gives these flags is tested behind one."""

from typing import Any

from mesh.compiler import replies
from mesh.compiler.generated import JSON


def by_flag(config: JSON) -> dict[str, dict[str, str]]:
    """The headers that each response flag adds; the first mapper wins."""
    found: dict[str, dict[str, str]] = {}
    for mapper in config["mappers"]:
        for flag in mapper["filter"].get("response_flag_filter", {}).get("flags", ()):
            found.setdefault(flag, _headers(mapper))
    return found


def _headers(mapper: Any) -> dict[str, str]:
    return {each["header"]["key"]: each["header"]["value"] for each in mapper["headers_to_add"]}


def test_flags_become_reasons() -> None:
    found = by_flag(replies.local_replies())
    assert found["UH"] == {"x-mesh-reason": "no-healthy-endpoint"}
    assert found["NC"] == {"x-mesh-reason": "no-backend"}
    assert found["UT"] == {"x-mesh-reason": "timeout"}
    assert found["UF"] == {"x-mesh-reason": "connect-failure"}
    for flag in ("UC", "UR", "LR", "UPE"):
        assert found[flag] == {"x-mesh-reason": "reset"}


def test_a_reason_that_a_route_gave_stays() -> None:
    for mapper in replies.local_replies()["mappers"]:
        (reason,) = mapper["headers_to_add"]
        assert reason["header"]["key"] == "x-mesh-reason"
        assert reason["append_action"] == "ADD_IF_ABSENT"


def test_every_refusal_of_its_own_has_a_reason() -> None:
    last = replies.local_replies()["mappers"][-3:]
    found = [
        (each["filter"]["status_code_filter"]["comparison"], _headers(each)["x-mesh-reason"])
        for each in last
    ]
    decided = [(each["op"], each["value"]["default_value"], reason) for each, reason in found]
    assert decided == [
        ("EQ", 403, "access-denied"),
        ("GE", 500, "sidecar-error"),
        ("GE", 400, "bad-request"),
    ]
