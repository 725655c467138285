"""Store over SQLite: for every process of one host, without a server.

`database` is the file and its statements, `faults` its errors, `bell` how processes wake one
another, `store` the `Store` made of them.
"""

from mesh.adapters.embedded.store import EmbeddedStore

__all__ = ["EmbeddedStore"]
