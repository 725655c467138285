"""A real mesh in your own tests: etcd, Consul, the certificate authority and sidecars in
containers of testcontainers-python.

Needs `pip install "mesh[testing]"`, a Docker engine and the images (`make images`, or the
official ones by `MESH_ETCD_IMAGE` and `MESH_CONSUL_IMAGE`).
"""

from mesh.demo.certificates import Certificate, ServerAuthority
from mesh.testing.command import run_mesh
from mesh.testing.consul import ConsulAgentContainer, ConsulContainer
from mesh.testing.etcd import EtcdCluster, EtcdContainer
from mesh.testing.images import image, missing, require
from mesh.testing.members import CAContainer, Servers, SidecarContainer

__all__ = [
    "CAContainer",
    "Certificate",
    "ConsulAgentContainer",
    "ConsulContainer",
    "EtcdCluster",
    "EtcdContainer",
    "ServerAuthority",
    "Servers",
    "SidecarContainer",
    "image",
    "missing",
    "require",
    "run_mesh",
]
