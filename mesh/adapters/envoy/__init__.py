"""The data plane: one Envoy process, which outlives its agent."""

from mesh.adapters.envoy.data_plane import EnvoyProcess
from mesh.adapters.envoy.process import find_binary

__all__ = ["EnvoyProcess", "find_binary"]
