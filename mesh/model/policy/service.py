"""`Service` and `ExternalService`: destinations inside and outside the mesh."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from mesh.model.identity import ServiceName
from mesh.model.policy.reference import PolicyKey, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceSelector:
    """A view: the instances registered as `service` whose meta and tags match."""

    service: ServiceName
    meta: Mapping[str, str] = field(default_factory=dict)
    tags: frozenset[str] = frozenset()
    datacenter: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A name in the mesh. `instances is None`: those registered under the name itself.

    `dependencies is None`: derived from the access policies that admit the service.
    """

    key: PolicyKey
    protocol: Protocol
    port: int
    instances: InstanceSelector | None = None
    dependencies: tuple[ServiceName, ...] | None = None

    @property
    def name(self) -> ServiceName:
        """The service's own name."""
        return ServiceName(self.key.namespace, self.key.name)

    @property
    def selector(self) -> InstanceSelector:
        """Which registered instances answer for it."""
        return self.instances or InstanceSelector(service=self.name)

    @property
    def identity_of(self) -> ServiceName:
        """The name its instances' certificates carry (a view has no identity of its own)."""
        return self.instances.service if self.instances else self.name


class Address(NamedTuple):
    """An IP address (no brackets) and a port."""

    address: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalService:
    """A destination outside the mesh: no sidecar, no mesh certificate."""

    key: PolicyKey
    protocol: Protocol
    port: int
    endpoints: tuple[Address, ...]

    @property
    def name(self) -> ServiceName:
        """The service's own name."""
        return ServiceName(self.key.namespace, self.key.name)
