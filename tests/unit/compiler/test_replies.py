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


def test_reasons_are_the_same_on_both_sides() -> None:
    outbound, inbound = by_flag(replies.outbound()), by_flag(replies.inbound())
    assert outbound.keys() == inbound.keys()
    for flag, headers in outbound.items():
        assert headers == {"x-mesh-reason": inbound[flag]["x-mesh-reason"]}
    assert outbound["UH"] == {"x-mesh-reason": "no-healthy-endpoint"}
    assert outbound["NC"] == {"x-mesh-reason": "no-backend"}
    assert outbound["UT"] == {"x-mesh-reason": "timeout"}


def test_only_the_callee_says_how_its_application_failed() -> None:
    said = {
        flag: headers["x-mesh-failure"]
        for flag, headers in by_flag(replies.inbound()).items()
        if "x-mesh-failure" in headers
    }
    assert said == {"UF": "connect", "UC": "reset", "UR": "reset", "LR": "reset", "UPE": "reset"}


def test_a_reason_that_a_route_gave_stays() -> None:
    for config in (replies.outbound(), replies.inbound()):
        for mapper in config["mappers"]:
            reason = mapper["headers_to_add"][0]
            assert reason["header"]["key"] == "x-mesh-reason"
            assert reason["append_action"] == "ADD_IF_ABSENT"


def test_every_refusal_of_its_own_has_a_reason() -> None:
    last = replies.outbound()["mappers"][-3:]
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
