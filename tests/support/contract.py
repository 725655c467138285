"""Documents in few words, as a user would write them."""


def service(name: str, spec: str = "protocol: http, port: 80", namespace: str = "default") -> str:
    """A Service document."""
    return (
        f"---\n{{apiVersion: mesh/v1, kind: Service, metadata: {{name: {name}, "
        f"namespace: {namespace}}}, spec: {{{spec}}}}}\n"
    )


def mine(kind: str, name: str, spec: str) -> str:
    """A document of the mesh's own kinds."""
    return f"---\n{{apiVersion: mesh/v1, kind: {kind}, metadata: {{name: {name}}}, spec: {spec}}}\n"


def access(name: str, rule: str, target: str = "kind: Service, name: api") -> str:
    """An AccessPolicy with one allow rule."""
    rules = f"rules: [{{name: r, action: allow, {rule}}}]" if rule else "rules: []"
    return mine("AccessPolicy", name, f"{{targetRefs: [{{{target}}}], {rules}}}")


def route(rules: str, parent: str = 'group: "", kind: Service, name: api') -> str:
    """An HTTPRoute of Service `api` with these rules."""
    return (
        "---\n{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r}, "
        f"spec: {{parentRefs: [{{{parent}}}], rules: [{rules}]}}}}\n"
    )
