from datetime import timedelta
from typing import Any

import pytest

from mesh.compiler import retries
from mesh.model.policy import Retry, RetryOn


def _policy(
    *, try_timeout: timedelta | None = None, last_resort: bool = False, **retry: Any
) -> Any:
    return retries.policy(
        Retry(attempts=2, **retry), try_timeout=try_timeout, last_resort=last_resort
    )


def _on(*conditions: RetryOn, **retry: Any) -> set[str]:
    return set(_policy(on=frozenset(conditions), **retry)["retry_on"].split(","))


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (RetryOn.CONNECT_FAILURE, {"connect-failure", "retriable-headers"}),
        (RetryOn.RESET, {"reset", "retriable-headers"}),
        (RetryOn.REFUSED_STREAM, {"refused-stream"}),
        (RetryOn.GATEWAY_ERROR, {"gateway-error"}),
        (RetryOn.SERVER_ERROR, {"5xx"}),
        (RetryOn.RETRIABLE_4XX, {"retriable-4xx"}),
        (RetryOn.TIMEOUT, {"reset"}),
    ],
)
def test_each_condition_in_envoys_words(condition: RetryOn, expected: set[str]) -> None:
    assert _on(condition) == expected


def test_a_connect_failure_is_retried_on_its_reason_only_and_a_reset_on_both() -> None:
    def marks(condition: RetryOn) -> list[str]:
        found = _policy(on=frozenset({condition}))["retriable_headers"]
        assert {each["name"] for each in found} == {"x-mesh-reason"}
        return [each["string_match"]["exact"] for each in found]

    assert marks(RetryOn.CONNECT_FAILURE) == ["connect-failure"]
    assert marks(RetryOn.RESET) == ["connect-failure", "reset"]


def test_statuses_alone_add_no_condition() -> None:
    policy = _policy(statuses=(503, 418, 418))
    assert policy["retry_on"] == "retriable-status-codes"
    assert policy["retriable_status_codes"] == [418, 503]


def test_idempotent_methods_only_unless_methods_are_named() -> None:
    def methods(**retry: Any) -> str:
        [header] = _policy(**retry)["retriable_request_headers"]
        assert header["name"] == ":method"
        return str(header["string_match"]["safe_regex"]["regex"])

    assert methods() == "DELETE|GET|HEAD|OPTIONS|PUT|TRACE"
    assert methods(methods=("POST", "M-SEARCH")) == r"M\-SEARCH|POST"


def test_attempts_are_retries_and_the_try_has_its_time_out() -> None:
    policy = _policy(try_timeout=timedelta(milliseconds=250))
    assert policy["num_retries"] == 2
    assert policy["per_try_timeout"] == "0.25s"
    assert "per_try_timeout" not in _policy(try_timeout=timedelta(0))
    assert "per_try_timeout" not in _policy()


def test_backoff_is_never_longer_at_its_base_than_at_its_end() -> None:
    seconds = timedelta(seconds=1)
    assert _policy()["retry_back_off"] == {"base_interval": "0.025s", "max_interval": "0.25s"}
    assert _policy(backoff_base=seconds)["retry_back_off"]["max_interval"] == "1s"


def test_elsewhere_passes_over_the_endpoints_that_were_tried() -> None:
    policy = _policy()
    assert policy["retry_host_predicate"][0]["name"].endswith("previous_hosts")
    assert policy["host_selection_retry_max_attempts"] == 16
    assert "retry_priority" not in policy
    assert "retry_host_predicate" not in _policy(elsewhere=False)


def test_a_lone_endpoint_is_left_for_the_last_resort() -> None:
    assert _policy(last_resort=True)["retry_priority"]["typed_config"]["update_frequency"] == 1
