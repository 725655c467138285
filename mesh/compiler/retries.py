"""A Retry as Envoy's RetryPolicy: which tries are repeated, how often, where and when."""

import re
from datetime import timedelta
from typing import Final

from mesh.compiler.durations import text
from mesh.compiler.generated import JSON, REASON_CONNECT, REASON_HEADER, REASON_RESET
from mesh.model.policy import Retry, RetryOn

IDEMPOTENT: Final = ("DELETE", "GET", "HEAD", "OPTIONS", "PUT", "TRACE")
"""RFC 9110 section 9.2.2."""

_ENVOY: Final = {
    RetryOn.CONNECT_FAILURE: "connect-failure",
    RetryOn.REFUSED_STREAM: "refused-stream",
    RetryOn.RESET: "reset",
    RetryOn.GATEWAY_ERROR: "gateway-error",
    RetryOn.SERVER_ERROR: "5xx",
    RetryOn.RETRIABLE_4XX: "retriable-4xx",
    # Envoy has no condition for time-outs alone: a timed-out try is a reset made by itself.
    RetryOn.TIMEOUT: "reset",
}
_EXTENSIONS: Final = "type.googleapis.com/envoy.extensions.retry."
# Envoy draws again while it draws an endpoint that was tried, so often: of two endpoints the tried
# one is drawn sixteen times in a row once in 65,000 retries.
_SELECTION_ATTEMPTS: Final = 16


def policy(retry: Retry, *, try_timeout: timedelta | None, last_resort: bool) -> JSON:
    """The RetryPolicy of a route.

    `try_timeout` limits each try; it is the route's, which has settled whose it is.
    `last_resort`: the only other endpoint may be one that is kept for when all others fail.
    Envoy's backoff is random, from zero up to the interval.
    """
    marks = _marks(retry.on)
    conditions = {_ENVOY[each] for each in retry.on}
    conditions |= {"retriable-status-codes"} if retry.statuses else set()
    conditions |= {"retriable-headers"} if marks else set()
    fields: dict[str, object] = {
        "retry_on": ",".join(sorted(conditions)),
        "num_retries": retry.attempts,
        "retry_back_off": {
            "base_interval": text(retry.backoff_base),
            "max_interval": text(max(retry.backoff_base, retry.backoff_max)),
        },
        "retriable_request_headers": [_methods(retry)],
    }
    if try_timeout:
        fields["per_try_timeout"] = text(try_timeout)
    if retry.statuses:
        fields["retriable_status_codes"] = sorted(set(retry.statuses))
    if marks:
        fields["retriable_headers"] = marks
    if retry.elsewhere:
        fields |= _elsewhere(last_resort=last_resort)
    return fields


def _methods(retry: Retry) -> JSON:
    methods = IDEMPOTENT if retry.methods is None else retry.methods
    regex = "|".join(re.escape(each) for each in sorted(set(methods)))
    return {"name": ":method", "string_match": {"safe_regex": {"regex": regex}}}


def _marks(on: frozenset[RetryOn]) -> list[JSON]:
    """Over two hops the application's failure arrives as a plain 503, with its sidecar's reason."""
    values: set[str] = set()
    if on & {RetryOn.CONNECT_FAILURE, RetryOn.RESET}:
        values.add(REASON_CONNECT)
    if RetryOn.RESET in on:
        values.add(REASON_RESET)
    return [{"name": REASON_HEADER, "string_match": {"exact": each}} for each in sorted(values)]


def _elsewhere(*, last_resort: bool) -> JSON:
    """Endpoints that were tried are passed over, five times at most: then any will do."""
    fields: dict[str, object] = {
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {
                    "@type": _EXTENSIONS + "host.previous_hosts.v3.PreviousHostsPredicate"
                },
            }
        ],
        "host_selection_retry_max_attempts": _SELECTION_ATTEMPTS,
    }
    if last_resort:
        # A lone endpoint of the first priority would be tried again and again.
        fields["retry_priority"] = {
            "name": "envoy.retry_priorities.previous_priorities",
            "typed_config": {
                "@type": _EXTENSIONS + "priority.previous_priorities.v3.PreviousPrioritiesConfig",
                "update_frequency": 1,
            },
        }
    return fields
