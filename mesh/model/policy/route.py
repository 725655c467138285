"""`HTTPRoute` (Gateway API v1.6): where a request goes, and what is done to it on the way."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from mesh.model.policy.reference import PolicyKey, Target


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
