from mesh.authority.limits import Limiter, Rate, network


def taken(limiter: Limiter, peer: str, now: float) -> int:
    """How often in a row the peer may ask."""
    count = 0
    while limiter.has_room(peer, now):
        limiter.take(peer, now)
        count += 1
    return count


def test_a_peer_has_a_burst_and_then_a_rate() -> None:
    limiter = Limiter(Rate(burst=10, per_second=2))
    assert taken(limiter, "192.0.2.1", 0.0) == 10
    assert taken(limiter, "192.0.2.1", 0.4) == 0
    assert taken(limiter, "192.0.2.1", 3.0) == 6
    assert taken(limiter, "192.0.2.1", 1000.0) == 10


def test_peers_do_not_share() -> None:
    limiter = Limiter(Rate(burst=1, per_second=0))
    assert taken(limiter, "192.0.2.1", 0.0) == 1
    assert taken(limiter, "192.0.2.2", 0.0) == 1


def test_an_ipv6_network_is_one_peer() -> None:
    assert network("2001:db8::1") == network("2001:db8::ffff:1") == "2001:db8::/64"
    assert network("fe80::1%eth0") == "fe80::/64"
    assert network("192.0.2.1") == "192.0.2.1"
    assert network("") == ""


def test_the_memory_is_bounded() -> None:
    limiter = Limiter(Rate(burst=1, per_second=0))
    for number in range(20_000):
        limiter.take(f"10.{number >> 16}.{(number >> 8) & 255}.{number & 255}", 0.0)
    assert len(limiter._buckets) == 10_000
    assert not limiter.has_room("10.0.78.31", 0.0)  # the newest
    assert limiter.has_room("10.0.0.0", 0.0)  # forgotten
