"""Durations as proto3 JSON says them, and spread so that services do not act in step."""

import hashlib
from datetime import timedelta

_MICROSECOND = timedelta(microseconds=1)
_SPREAD_PERMILLE = 100


def text(duration: timedelta) -> str:
    """`1.25s`: seconds with at most six decimals (google.protobuf.Duration in JSON)."""
    seconds, microseconds = divmod(duration // _MICROSECOND, 1_000_000)
    fraction = f".{microseconds:06d}".rstrip("0") if microseconds else ""
    return f"{seconds}{fraction}s"


def spread(duration: timedelta, key: str) -> timedelta:
    """`duration` within 10 % either way, the same for equal keys.

    Connections of many services that were opened together then do not end together.
    """
    digest = hashlib.sha256(key.encode()).digest()
    permille = int.from_bytes(digest[:8], "big") % (2 * _SPREAD_PERMILLE + 1) - _SPREAD_PERMILLE
    return duration + duration * permille / 1000
