"""What a JSON Schema cannot say about one document: the rules of our own kinds.

A rule is a function from a document whose schema holds to findings. Those of HTTPRoute are
in `route_rules`.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator
from datetime import timedelta

from mesh.documents.fields import Object, duration, items, section, text
from mesh.documents.regexes import refusal
from mesh.documents.route_rules import route_rules
from mesh.documents.values import Path
from mesh.documents.wording import Finding
from mesh.model.identity import DEFAULT_NAMESPACE

MINIMUM_LIFETIME = timedelta(seconds=10)
ANNOTATION_PREFIX = "mesh/"
_LATER_ANNOTATIONS = {"mesh/expires": "remove the document when its time is over"}

# What Envoy normalizes away (RFC 3986 section 6.2.2, merged slashes) would never match, and a
# path parameter (RFC 3986 section 3.3) is dropped by some backends after the rule was decided.
_UNSAFE = re.compile(r";|%3b|%2f|%5c|\\|//|/\.{1,2}(?:/|$)|[?#\s]|%00", re.IGNORECASE)


def findings(data: Object) -> Iterator[Finding]:
    """What is wrong in the fields of a document whose schema holds."""
    namespace = text(section(data, "metadata"), "namespace", DEFAULT_NAMESPACE)
    yield from _annotations(section(section(data, "metadata"), "annotations"))
    yield from _RULES[text(data, "kind")](section(data, "spec"), namespace)


def _annotations(annotations: Object) -> Iterator[Finding]:
    """Those of the mesh itself mean something, so none of them is taken for a remark."""
    for name in annotations:
        path: Path = ("metadata", "annotations", name)
        if name in _LATER_ANNOTATIONS:
            yield Finding(path, "not-supported-yet", f'annotation "{name}" is not supported yet',
                          _LATER_ANNOTATIONS[name], key=True)  # fmt: skip
        elif name.startswith(ANNOTATION_PREFIX):
            yield Finding(path, "unknown-field", f'"{name}" is not an annotation of the mesh',
                          "use a prefix of your own", key=True)  # fmt: skip


def _mesh(spec: Object, _namespace: str) -> Iterator[Finding]:
    lifetime = duration(section(spec, "certificates"), "lifetime")
    if lifetime is not None and lifetime < MINIMUM_LIFETIME:
        yield Finding(("spec", "certificates", "lifetime"), "out-of-range",
                      "a certificate lives at least 10s")  # fmt: skip


def _service(spec: Object, namespace: str) -> Iterator[Finding]:
    instances = section(spec, "instances")
    is_view = "service" in instances or text(instances, "namespace", namespace) != namespace
    if is_view and "dependencies" in spec:
        hint = "put dependencies into the Service that it is a view of"
        yield Finding(("spec", "dependencies"), "not-allowed", "a view calls nothing by itself",
                      hint, key=True)  # fmt: skip


def _external_service(spec: Object, _namespace: str) -> Iterator[Finding]:
    seen: dict[tuple[str, int], int] = {}
    for index, item in enumerate(items(spec, "endpoints")):
        path: Path = ("spec", "endpoints", index, "address")
        address = text(item, "address")
        try:
            ipaddress.ip_address(address)
        except ValueError:
            hint = "write an IPv4 or IPv6 address; host names are not resolved yet"
            yield Finding(path, "bad-format", f'"{address}" is no IP address', hint)
        place = (address, int(str(item["port"])))
        if place in seen:
            yield Finding(path, "duplicate-item", f"endpoint {address} {place[1]} is listed twice",
                          "keep one of the two")  # fmt: skip
        seen.setdefault(place, index)


def _traffic_policy(spec: Object, _namespace: str) -> Iterator[Finding]:
    yield from _repeated_targets(spec)
    retry, outliers = section(spec, "retry"), spec.get("outlierDetection")
    if retry and not retry.get("on") and not retry.get("statuses"):
        yield Finding(("spec", "retry"), "missing-field", 'a retry needs "on" or "statuses"',
                      "on: [connect-failure, gateway-error]")  # fmt: skip
    yield from _ordered(retry, ("spec", "retry", "backoff"), 25, 250)
    if isinstance(outliers, dict):
        path: Path = ("spec", "outlierDetection", "ejection")
        yield from _ordered(outliers, path, 30_000, 300_000)
        detectors = ("consecutive5xx", "consecutiveGatewayErrors", "successRate")
        algorithm = text(section(spec, "loadBalancer"), "algorithm")
        if algorithm != "latency-aware" and not any(name in outliers for name in detectors):
            yield Finding(path[:-1], "missing-field", "an outlier detection needs a detector",
                          f"one of {', '.join(detectors)}")  # fmt: skip


def _ordered(data: Object, path: Path, base_ms: int, max_ms: int) -> Iterator[Finding]:
    """A span's `base` is not longer than its `max`."""
    spans = section(data, str(path[-1]))
    if not spans:
        return
    base = duration(spans, "base") or timedelta(milliseconds=base_ms)
    longest = duration(spans, "max") or timedelta(milliseconds=max_ms)
    if base > longest:
        yield Finding((*path, "base" if "base" in spans else "max"), "out-of-range",
                      f"base ({_words(base)}) is longer than max ({_words(longest)})",
                      "set both, base not longer than max")  # fmt: skip


def _words(span: timedelta) -> str:
    milliseconds = span // timedelta(milliseconds=1)
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


def _repeated_targets(spec: Object) -> Iterator[Finding]:
    seen: set[tuple[str, str]] = set()
    for index, item in enumerate(items(spec, "targetRefs")):
        target = (text(item, "kind"), text(item, "name"))
        if target in seen:
            yield Finding(("spec", "targetRefs", index), "duplicate-item",
                          f'{target[0]} "{target[1]}" is a target twice',
                          "keep one of the two")  # fmt: skip
        seen.add(target)


def _access_policy(spec: Object, namespace: str) -> Iterator[Finding]:
    yield from _repeated_targets(spec)
    for index, item in enumerate(items(spec, "targetRefs")):
        kind, name = text(item, "kind"), text(item, "name")
        if kind == "Namespace" and name != namespace:
            yield Finding(("spec", "targetRefs", index, "name"), "foreign-namespace",
                          f'a policy of namespace "{namespace}" cannot target namespace "{name}"',
                          "put the document into that namespace")  # fmt: skip
    names: set[str] = set()
    for index, rule in enumerate(items(spec, "rules")):
        path: Path = ("spec", "rules", index)
        if (name := text(rule, "name")) in names:
            yield Finding((*path, "name"), "duplicate-item", f'two rules are named "{name}"',
                          "rename one; names show in logs")  # fmt: skip
        names.add(name)
        for number, operation in enumerate(items(rule, "to")):
            yield from _operation(operation, (*path, "to", number))


def _operation(operation: Object, path: Path) -> Iterator[Finding]:
    for index, item in enumerate(items(operation, "paths")):
        name = next(iter(item))
        yield from _access_path(name, text(item, name), (*path, "paths", index, name))
    names: set[str] = set()
    for index, header in enumerate(items(operation, "headers")):
        if (name := text(header, "name").lower()) in names:
            yield Finding((*path, "headers", index), "duplicate-item",
                          f'header "{name}" is listed twice', "keep one of the two")  # fmt: skip
        names.add(name)


def _access_path(name: str, value: str, path: Path) -> Iterator[Finding]:
    if name == "regex":
        if reason := refusal(value):
            yield Finding(path, "bad-regex", f"not a regular expression of RE2: {reason}")
        if ";" in value or "%3b" in value.lower():
            yield Finding(path, "unsafe-path", "an access rule cannot name a path with \";\"",
                          'requests with ";" are refused where a rule names a path')  # fmt: skip
        return
    if match := _UNSAFE.search(value):
        yield Finding(path, "unsafe-path", f'an access rule cannot name a path with "{match[0]}"',
                      "requests with it are refused or normalized before the rule")  # fmt: skip


_RULES: dict[str, Callable[[Object, str], Iterator[Finding]]] = {
    "Mesh": _mesh,
    "Service": _service,
    "ExternalService": _external_service,
    "HTTPRoute": route_rules,
    "TrafficPolicy": _traffic_policy,
    "AccessPolicy": _access_policy,
}
