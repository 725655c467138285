"""What an agent says of itself, beside the traffic that its Envoy counts."""

from dataclasses import dataclass
from datetime import datetime

from mesh.metrics.family import Family, Sample, counter, gauge
from mesh.model.identity import ServiceName


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentHealth:
    """One agent at one moment. Revisions are 0 while there is none.

    `head` is the newest revision that it knows of, `compiled` the newest it has made a
    configuration from, `applied` the newest that its Envoy runs in full. `stale_seconds` is how
    long it has been running on old news, 0 while it does not. `rejections` are the parts that
    Envoy refuses now, `nacks` how often it ever refused, `restarts` how often it was started again.
    """

    id: str
    service: ServiceName
    version: str
    head: int
    compiled: int
    applied: int
    is_store_up: bool
    is_discovery_up: bool
    is_authority_up: bool
    stale_seconds: float
    certificate_not_after: datetime | None
    rejections: int
    nacks: int
    is_compiled: bool
    is_envoy_up: bool
    envoy_restarts: int


def health(found: AgentHealth) -> tuple[Family, ...]:
    """The families of one agent."""
    expiry = found.certificate_not_after
    identity = {
        "id": found.id,
        "namespace": found.service.namespace,
        "service": found.service.name,
        "version": found.version,
    }
    return (
        gauge("mesh_sidecar_info", "Which sidecar this is; always 1.", Sample(1, identity)),
        _gauge("mesh_head_revision", "The newest revision that the agent knows of.", found.head),
        _gauge("mesh_compiled_revision", "The newest revision it compiled.", found.compiled),
        _gauge("mesh_applied_revision", "The revision that Envoy runs in full.", found.applied),
        _gauge("mesh_store_up", "Whether the store answers.", found.is_store_up),
        _gauge("mesh_discovery_up", "Whether discovery answers.", found.is_discovery_up),
        _gauge(
            "mesh_authority_up",
            "Whether the certificate authority answered when it was last asked.",
            found.is_authority_up,
        ),
        _gauge(
            "mesh_stale_seconds", "How long the agent has run on old news.", found.stale_seconds
        ),
        gauge(
            "mesh_certificate_expiry_timestamp_seconds",
            "When the certificate in use ends, in seconds since 1970.",
            *((Sample(expiry.timestamp()),) if expiry else ()),
        ),
        _gauge(
            "mesh_rejected_resources",
            "Parts of the configuration that Envoy refuses now.",
            found.rejections,
        ),
        counter("mesh_nacks_total", "How often Envoy refused configuration.", Sample(found.nacks)),
        _gauge(
            "mesh_last_compile_successful",
            "Whether the newest input could be compiled.",
            found.is_compiled,
        ),
        _gauge("mesh_envoy_up", "Whether Envoy answers.", found.is_envoy_up),
        counter(
            "mesh_envoy_restarts_total",
            "How often this agent started Envoy again after its end.",
            Sample(found.envoy_restarts),
        ),
    )


def build_info(component: str, version: str) -> Family:
    """What answers: `component` is sidecar, ca or sync."""
    labels = {"component": component, "version": version}
    return gauge("mesh_build_info", "What answers here; always 1.", Sample(1, labels))


def dropped_series(count: int) -> Family:
    """How many series were ever left out of an answer, for there were too many."""
    return counter(
        "mesh_series_dropped_total", "Series left out of scrapes by the limit.", Sample(count)
    )


def _gauge(name: str, help: str, value: float) -> Family:
    return gauge(name, help, Sample(float(value)))
