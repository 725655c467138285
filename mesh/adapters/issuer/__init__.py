"""Issuer over the local certificate authority, made by whoever needs it first.

`files` is its folder: the state, and the lock that serializes changes among the processes of the
host. `local` is the `Issuer` made of it. What to change, and when, is `mesh.ca.rotation`'s.
"""

from mesh.adapters.issuer.local import LocalIssuer

__all__ = ["LocalIssuer"]
