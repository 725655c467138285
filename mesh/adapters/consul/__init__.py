"""Discovery over Consul: registration with a TTL check, one blocking query per service in scope."""

from mesh.adapters.consul.client import ConsulSettings
from mesh.adapters.consul.discovery import ConsulDiscovery

__all__ = ["ConsulDiscovery", "ConsulSettings"]
