"""Documents of other meshes and of Kubernetes: what people bring along, and what says it here."""

from collections.abc import Mapping

# By kind; where the kind is one of ours too, by the group of its apiVersion.
COUNTERPARTS: Mapping[str, str] = {
    "VirtualService": "HTTPRoute",
    "DestinationRule": "TrafficPolicy, and a Service with `instances` for each subset",
    "ServiceEntry": "ExternalService",
    "AuthorizationPolicy": "AccessPolicy",
    "PeerAuthentication": "Mesh (mutual TLS is strict)",
    "ServiceProfile": "HTTPRoute for routes and time-outs, TrafficPolicy for retries",
    "ServiceRouter": "HTTPRoute",
    "ServiceSplitter": "HTTPRoute with weights in backendRefs",
    "ServiceResolver": "Service with `instances` for each subset",
    "ServiceIntentions": "AccessPolicy",
    "ServiceDefaults": "Service",
    "MeshHTTPRoute": "HTTPRoute",
    "MeshTrafficPermission": "AccessPolicy",
    "MeshRetry": "TrafficPolicy",
    "MeshTimeout": "TrafficPolicy",
    "MeshCircuitBreaker": "TrafficPolicy",
    "MeshLoadBalancingStrategy": "TrafficPolicy",
    "MeshExternalService": "ExternalService",
    "TrafficSplit": "HTTPRoute with weights in backendRefs",
    "TrafficTarget": "AccessPolicy",
    "HTTPRouteGroup": "HTTPRoute",
    "Deployment": "none: the mesh takes instances as they register; run `mesh sidecar` beside each",
    "Ingress": "HTTPRoute, for callers inside the mesh",
}
_OWNERS = ("istio.io", "consul.hashicorp.com", "kuma.io", "linkerd.io", "smi-spec.io", "k8s.io")
# What Kubernetes itself calls its APIs.
_KUBERNETES = ("v1", "apps/v1", "batch/v1")


def counterpart(kind: str, version: str) -> str:
    """What to write instead of a document of another system; empty where it seems to be ours."""
    group = version.partition("/")[0]
    is_foreign = version in _KUBERNETES or group.endswith(_OWNERS)
    if kind in COUNTERPARTS:
        return f"its counterpart here: {COUNTERPARTS[kind]}"
    if not is_foreign:
        return ""
    whose = "Kubernetes" if version in _KUBERNETES else group
    return f"this is a document of {whose}; `mesh init` writes some of the mesh's own"
