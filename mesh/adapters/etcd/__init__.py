"""Store over etcd v3, on gRPC and aetcd's generated stubs.

`members` is the connection and its errors, `diagnosis` why there is none, `ranges` reading,
`stream` the call that all watches share, `follower` the watch loop, `store` the `Store` made of
them. Importing this package imports gRPC.
"""

import os

# gRPC's core reads this when it is loaded, and else writes lines of its own to standard error;
# what processes inherit that we start later is not ours to change.
_found = os.environ.get("GRPC_VERBOSITY")
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
import grpc.aio  # noqa: E402, F401

if _found is None:
    del os.environ["GRPC_VERBOSITY"]

from mesh.adapters.etcd.settings import EtcdSettings  # noqa: E402
from mesh.adapters.etcd.store import EtcdStore, is_sound  # noqa: E402

__all__ = ["EtcdSettings", "EtcdStore", "is_sound"]
