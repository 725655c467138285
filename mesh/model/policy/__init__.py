"""The typed policies: what documents mean once every rule of their schema holds.

One class per kind (docs/reference has the fields). A value of these types is right by
construction: `documents.codec` is the only maker outside tests. Durations are `timedelta`;
`None` means "not said", which leaves the field out of the generated configuration unless the
compiler documents a default.
"""

from mesh.model.policy.access import (
    AccessPathType,
    AccessPolicy,
    AccessRule,
    Action,
    Caller,
    Operation,
)
from mesh.model.policy.mesh import Default, Mesh
from mesh.model.policy.reference import Kind, PolicyKey, Protocol, Target
from mesh.model.policy.route import (
    Backend,
    Filters,
    HeaderModifier,
    HTTPMatch,
    HTTPRoute,
    HTTPRule,
    ParentRef,
    PathMatch,
    PathMatchType,
    PathModifier,
    ReplaceFullPath,
    ReplacePrefixMatch,
    RequestRedirect,
    URLRewrite,
    ValueMatch,
    ValueMatchType,
)
from mesh.model.policy.service import Address, ExternalService, InstanceSelector, Service
from mesh.model.policy.traffic import (
    Algorithm,
    Limits,
    OutlierDetection,
    Retry,
    RetryOn,
    SuccessRate,
    Timeouts,
    TrafficPolicy,
)

Policy = Mesh | Service | ExternalService | HTTPRoute | TrafficPolicy | AccessPolicy

__all__ = [
    "AccessPathType",
    "AccessPolicy",
    "AccessRule",
    "Action",
    "Address",
    "Algorithm",
    "Backend",
    "Caller",
    "Default",
    "ExternalService",
    "Filters",
    "HTTPMatch",
    "HTTPRoute",
    "HTTPRule",
    "HeaderModifier",
    "InstanceSelector",
    "Kind",
    "Limits",
    "Mesh",
    "Operation",
    "OutlierDetection",
    "ParentRef",
    "PathMatch",
    "PathMatchType",
    "PathModifier",
    "Policy",
    "PolicyKey",
    "Protocol",
    "ReplaceFullPath",
    "ReplacePrefixMatch",
    "RequestRedirect",
    "Retry",
    "RetryOn",
    "Service",
    "SuccessRate",
    "Target",
    "Timeouts",
    "TrafficPolicy",
    "URLRewrite",
    "ValueMatch",
    "ValueMatchType",
]
