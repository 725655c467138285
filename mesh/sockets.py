"""TCP sockets by an Address, of IPv4 or IPv6."""

import socket

from mesh.model.policy import Address


def unconnected(address: Address) -> socket.socket:
    """A socket of the address's family, that the caller closes."""
    family = socket.AF_INET6 if ":" in address.address else socket.AF_INET
    return socket.socket(family, socket.SOCK_STREAM)


def bound(address: Address) -> socket.socket:
    """A socket at the address, which connections of before do not keep from it.

    Raises:
        OSError: somebody listens there, it is no address of this host, or the right is missing.
    """
    made = unconnected(address)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made


def is_free(address: Address) -> bool:
    """Whether one could listen there."""
    try:
        with bound(address) as probe:
            probe.listen(1)
    except OSError:
        return False
    return True
