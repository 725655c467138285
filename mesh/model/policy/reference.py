"""What documents are called, and what they point at."""

from enum import StrEnum
from typing import NamedTuple

from mesh.model.identity import ServiceName


class PolicyKey(NamedTuple):
    """What makes a document the same document: kind, namespace and name."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


class Protocol(StrEnum):
    """What a service speaks: always said, never guessed."""

    HTTP = "http"
    HTTP2 = "http2"
    GRPC = "grpc"
    TCP = "tcp"

    @property
    def is_http(self) -> bool:
        """Whether requests are understood (routes, HTTP access rules) and not only bytes."""
        return self is not Protocol.TCP


class Kind(StrEnum):
    """The kinds a reference may point at."""

    SERVICE = "Service"
    EXTERNAL_SERVICE = "ExternalService"
    NAMESPACE = "Namespace"
    MESH = "Mesh"

    __hash__ = str.__hash__  # Enum's own is a call in Python, for each look-up


class Target(NamedTuple):
    """A resolved reference. `namespace` is never empty; for `Namespace` it equals `name`."""

    kind: Kind
    namespace: str
    name: str

    @property
    def service(self) -> ServiceName:
        """The name, where `kind` is `Service` or `ExternalService`."""
        return ServiceName(self.namespace, self.name)
