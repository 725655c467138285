"""The typed policies: what documents mean once every rule of their schema holds.

One class per kind (docs/reference has the fields). A value of these types is right by
construction: `documents.codec` is the only maker outside tests. Durations are `timedelta`;
`None` means "not said", which leaves the field out of the generated configuration unless the
compiler documents a default.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from mesh.model.identity import DEFAULT_TRUST_DOMAIN, ServiceName


@dataclass(frozen=True, slots=True, order=True)
class PolicyKey:
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


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """A resolved reference. `namespace` is never empty; for `Namespace` it equals `name`."""

    kind: Kind
    namespace: str
    name: str

    @property
    def service(self) -> ServiceName:
        """The name, where `kind` is `Service` or `ExternalService`."""
        return ServiceName(self.namespace, self.name)


# --- Mesh -----------------------------------------------------------------------------------


class Default(StrEnum):
    """What happens to a request that no rule decides."""

    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """The one document about the whole mesh; absent, these defaults hold."""

    key: PolicyKey
    trust_domain: str = DEFAULT_TRUST_DOMAIN
    access_default: Default = Default.DENY
    certificate_lifetime: timedelta = timedelta(hours=24)
    max_connection_duration: timedelta = timedelta(hours=1)


# --- Service and ExternalService ------------------------------------------------------------


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
        return self.selector.service


@dataclass(frozen=True, slots=True, order=True)
class Address:
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


# --- HTTPRoute (Gateway API v1.6) -----------------------------------------------------------


class PathMatchType(StrEnum):
    """Gateway API `HTTPPathMatch.type`."""

    EXACT = "Exact"
    PREFIX = "PathPrefix"
    REGEX = "RegularExpression"


class ValueMatchType(StrEnum):
    """Gateway API `HeaderMatchType` and `QueryParamMatchType`."""

    EXACT = "Exact"
    REGEX = "RegularExpression"


@dataclass(frozen=True, slots=True)
class PathMatch:
    """A path; a prefix is per path element. The default of a match is the prefix `/`."""

    type: PathMatchType = PathMatchType.PREFIX
    value: str = "/"


@dataclass(frozen=True, slots=True)
class ValueMatch:
    """One header (name lower case) or query parameter (name as written)."""

    name: str
    value: str
    type: ValueMatchType = ValueMatchType.EXACT


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPMatch:
    """All of its parts must hold."""

    path: PathMatch = PathMatch()
    headers: tuple[ValueMatch, ...] = ()
    query: tuple[ValueMatch, ...] = ()
    method: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderModifier:
    """Gateway API `HTTPHeaderFilter`: pairs of name and value; a name is in one list only."""

    set: tuple[tuple[str, str], ...] = ()
    add: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReplaceFullPath:
    """The whole path becomes `value`; the query stays."""

    value: str


@dataclass(frozen=True, slots=True)
class ReplacePrefixMatch:
    """The matched prefix becomes `value`; only beside a PathPrefix match."""

    value: str


PathModifier = ReplaceFullPath | ReplacePrefixMatch


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRedirect:
    """Gateway API `HTTPRequestRedirectFilter`; what is None stays as in the request."""

    scheme: str | None = None
    hostname: str | None = None
    path: PathModifier | None = None
    port: int | None = None
    status: int = 302


@dataclass(frozen=True, slots=True, kw_only=True)
class URLRewrite:
    """Gateway API `HTTPURLRewriteFilter`."""

    hostname: str | None = None
    path: PathModifier | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What a rule or a backend does to requests and answers; at most one of each type."""

    request_headers: HeaderModifier | None = None
    response_headers: HeaderModifier | None = None
    redirect: RequestRedirect | None = None
    rewrite: URLRewrite | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A share of a rule's requests. `target.kind` is Service or ExternalService."""

    target: Target
    port: int | None
    weight: int = 1
    filters: Filters = Filters()


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPRule:
    """`timeout` is of the whole request, `backend_timeout` of one try; zero means none."""

    name: str | None = None
    matches: tuple[HTTPMatch, ...] = (HTTPMatch(),)
    filters: Filters = Filters()
    backends: tuple[Backend, ...] = ()
    timeout: timedelta | None = None
    backend_timeout: timedelta | None = None


@dataclass(frozen=True, slots=True, order=True)
class ParentRef:
    """The Service or ExternalService whose callers a route is for; None is every port."""

    target: Target
    port: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPRoute:
    """Routes of a Service, for all callers (producer: the Service's own namespace) or for those
    of the route's namespace (consumer: another namespace).
    """

    key: PolicyKey
    parents: tuple[ParentRef, ...]
    rules: tuple[HTTPRule, ...] = ()
    hostnames: tuple[str, ...] = ()


# --- TrafficPolicy --------------------------------------------------------------------------


class Algorithm(StrEnum):
    """How a try chooses its endpoint."""

    ROUND_ROBIN = "round-robin"
    RANDOM = "random"
    LEAST_REQUEST = "least-request"
    LATENCY_AWARE = "latency-aware"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Of a connection attempt, of a request as a whole, of an idle connection."""

    connect: timedelta | None = None
    request: timedelta | None = None
    idle: timedelta | None = None


class RetryOn(StrEnum):
    """When a try counts as failed and may be repeated."""

    CONNECT_FAILURE = "connect-failure"
    REFUSED_STREAM = "refused-stream"
    RESET = "reset"
    GATEWAY_ERROR = "gateway-error"
    SERVER_ERROR = "5xx"
    RETRIABLE_4XX = "retriable-4xx"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """`attempts` counts retries, not the first try. `methods is None`: the idempotent ones
    (RFC 9110 section 9.2.2). `elsewhere`: a retry goes to another endpoint where there is one.
    """

    attempts: int
    on: frozenset[RetryOn] = frozenset()
    statuses: tuple[int, ...] = ()
    methods: tuple[str, ...] | None = None
    per_try_timeout: timedelta | None = None
    backoff_base: timedelta = timedelta(milliseconds=25)
    backoff_max: timedelta = timedelta(milliseconds=250)
    elsewhere: bool = True
    budget_percent: float = 20.0
    budget_min_concurrency: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SuccessRate:
    """Ejects endpoints whose share of successes is far below the others'."""

    minimum_hosts: int = 5
    request_volume: int = 100
    stdev_factor: float = 1.9


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlierDetection:
    """When an endpoint is left out for a while. `None` switches a detector off."""

    consecutive_5xx: int | None = None
    consecutive_gateway_errors: int | None = None
    success_rate: SuccessRate | None = None
    interval: timedelta = timedelta(seconds=1)
    base_ejection: timedelta = timedelta(seconds=30)
    max_ejection: timedelta = timedelta(seconds=300)
    max_ejected_percent: int = 50
    panic_threshold_percent: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Per destination and sidecar."""

    connections: int = 1024
    pending_requests: int = 1024
    requests: int = 1024
    retries: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficPolicy:
    """How callers treat a destination. `outlier_detection` False is an explicit `off`."""

    key: PolicyKey
    targets: tuple[Target, ...]
    algorithm: Algorithm | None = None
    timeouts: Timeouts = Timeouts()
    retry: Retry | None = None
    outlier_detection: OutlierDetection | bool | None = None
    limits: Limits | None = None


# --- AccessPolicy ---------------------------------------------------------------------------


class Action(StrEnum):
    """Deny beats allow; audit records and decides nothing."""

    ALLOW = "allow"
    DENY = "deny"
    AUDIT = "audit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A service, or every service of a namespace (`service is None`)."""

    namespace: str
    service: str | None = None

    def includes(self, caller: ServiceName) -> bool:
        """Whether it means `caller`."""
        return self.namespace == caller.namespace and self.service in (None, caller.name)


class AccessPathType(StrEnum):
    """How a rule reads a path; a prefix is by path element."""

    EXACT = "exact"
    PREFIX = "prefix"
    REGEX = "regex"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What is asked for: each given part must hold, the items of a part are alternatives.

    Headers are all required. Empty parts hold always.
    """

    methods: tuple[str, ...] = ()
    paths: tuple[tuple[AccessPathType, str], ...] = ()
    headers: tuple[ValueMatch, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRule:
    """One named rule. Empty `callers`: any authenticated caller; empty `operations`: anything."""

    name: str
    action: Action
    callers: tuple[Caller, ...] = ()
    operations: tuple[Operation, ...] = ()

    def concerns(self, caller: ServiceName) -> bool:
        """Whether it is about `caller`, whatever the action and the operations."""
        return not self.callers or any(each.includes(caller) for each in self.callers)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessPolicy:
    """Who may call the targets; several policies on one target add up."""

    key: PolicyKey
    targets: tuple[Target, ...]
    rules: tuple[AccessRule, ...] = ()


Policy = Mesh | Service | ExternalService | HTTPRoute | TrafficPolicy | AccessPolicy
