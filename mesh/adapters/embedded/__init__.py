"""Store over SQLite: for every process of one host, without a server.

`database` is the file and its statements, `bell` how processes wake one another, `store` the
`Store` made of both.
"""

from mesh.adapters.embedded.store import EmbeddedStore

__all__ = ["EmbeddedStore"]
