"""Sockets by an Address, of both families."""

import socket

import pytest

from mesh.model.policy import Address
from mesh.sockets import bound, is_free


@pytest.mark.parametrize("loopback", ["127.0.0.1", "::1"])
def test_a_port_is_free_until_somebody_listens_there(loopback: str) -> None:
    with bound(Address(loopback, 0)) as taken:
        where = Address(loopback, taken.getsockname()[1])
        taken.listen(1)
        assert not is_free(where)
        with pytest.raises(OSError, match="in use"):
            bound(where)
    assert is_free(where)


def test_connections_of_before_do_not_keep_it_from_anybody() -> None:
    with bound(Address("127.0.0.1", 0)) as listening:
        where = Address("127.0.0.1", listening.getsockname()[1])
        listening.listen(1)
        with socket.create_connection(where):
            listening.accept()[0].close()  # who closes first keeps the port for a minute
    assert is_free(where)


def test_what_is_no_address_of_this_host_is_not_free() -> None:
    assert not is_free(Address("192.0.2.1", 8080))
