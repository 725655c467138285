"""How much one address may ask: a bucket of requests and a smaller one of refusals.

Nobody guesses a token of 256 bits; the limits keep one host from using up the authority's time
and its audit log. Many sidecars may stand behind one address, so honest work has much room.
"""

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache

_MOST_ADDRESSES = 10_000
# Who has one address of an IPv6 network has them all (RFC 6177).
_IPV6_PREFIX = 64


@dataclass(frozen=True, slots=True)
class Rate:
    """`burst` at once, then `per_second`."""

    burst: float
    per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the service stands. By address: `requests` in all, and `refusals`, after which nothing
    is answered. `body_seconds` is for a request's body, which has a few hundred bytes;
    `idle_seconds` for a connection that says nothing, or its request's head too slowly;
    `at_once` are requests under way: signing takes well under a millisecond, so more are a flood.
    """

    requests: Rate = Rate(burst=1000, per_second=500)
    refusals: Rate = Rate(burst=50, per_second=2)
    body_bytes: int = 32 * 1024
    body_seconds: float = 5.0
    idle_seconds: float = 15.0
    handshake_seconds: float = 5.0
    at_once: int = 512


class Limiter:
    """Token buckets by peer address; the least recently seen addresses are forgotten."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def has_room(self, peer: str, now: float) -> bool:
        """Whether the peer may ask at `now`, in seconds of a monotonic clock."""
        return self._left(network(peer), now) >= 1.0

    def take(self, peer: str, now: float) -> None:
        """Count one of the peer's."""
        key = network(peer)
        self._buckets[key] = (self._left(key, now) - 1.0, now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > _MOST_ADDRESSES:
            self._buckets.popitem(last=False)

    def _left(self, key: str, now: float) -> float:
        left, since = self._buckets.get(key, (self._rate.burst, now))
        return min(self._rate.burst, left + (now - since) * self._rate.per_second)


@lru_cache(maxsize=_MOST_ADDRESSES)
def network(peer: str) -> str:
    """What counts as one peer: an IPv4 address, or an IPv6 /64."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return peer
    if address.version == 4:  # noqa: PLR2004
        return str(address)
    return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
