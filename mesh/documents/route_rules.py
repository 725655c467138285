"""The rules of Gateway API that its CEL validations hold, for an HTTPRoute (v1.6, standard)."""

import re
from collections.abc import Iterator

from mesh.documents.fields import Object, duration, items, section, text
from mesh.documents.regexes import refusal
from mesh.documents.values import Path
from mesh.documents.wording import Finding

MAX_MATCHES = 128

_FIELDS = {
    "RequestHeaderModifier": "requestHeaderModifier",
    "ResponseHeaderModifier": "responseHeaderModifier",
    "RequestRedirect": "requestRedirect",
    "URLRewrite": "urlRewrite",
}
_PATH_FIELDS = {"ReplaceFullPath": "replaceFullPath", "ReplacePrefixMatch": "replacePrefixMatch"}
_PATH = re.compile(r"/(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})*")
_PATH_PARTS = re.compile(r"//|/\.{1,2}(?:/|$)|%2[fF]|#")
# Envoy and the sidecars write or depend on these.
_RESERVED = re.compile(
    r"x-(?:mesh|envoy)-.*|x-forwarded-client-cert|connection|content-length|keep-alive"
    r"|proxy-connection|te|trailer|transfer-encoding|upgrade",
    re.IGNORECASE,
)


def route_rules(spec: Object, namespace: str) -> Iterator[Finding]:
    """The findings in the `spec` of an HTTPRoute whose schema holds."""
    yield from _parents(spec, namespace)
    names: set[str] = set()
    count = 0
    for index, rule in enumerate(items(spec, "rules")):
        path: Path = ("spec", "rules", index)
        name = text(rule, "name")
        if name and name in names:
            yield Finding((*path, "name"), "duplicate-item", f'two rules are named "{name}"',
                          "rename one")  # fmt: skip
        names.add(name)
        count += len(items(rule, "matches"))
        yield from _rule(rule, path)
    if count > MAX_MATCHES:
        yield Finding(("spec", "rules"), "wrong-count",
                      f"{count} matches in one route, at most {MAX_MATCHES}",
                      "split the route")  # fmt: skip


def _parents(spec: Object, namespace: str) -> Iterator[Finding]:
    seen: set[tuple[object, ...]] = set()
    for index, item in enumerate(items(spec, "parentRefs")):
        path: Path = ("spec", "parentRefs", index)
        kind, group = item.get("kind"), item.get("group")
        if kind is None or group is None:
            missing = "kind" if kind is None else "group"
            yield Finding(path, "missing-field",
                          f'a parent needs "{missing}": Gateway API\'s default means a Gateway',
                          'group: "" and kind: Service')  # fmt: skip
        else:
            yield from _group(str(kind), str(group), path)
        parent = (kind, item.get("namespace", namespace), item.get("name"), item.get("port"))
        if parent in seen:
            yield Finding(path, "duplicate-item", f'parent "{parent[2]}" is listed twice',
                          "keep one of the two")  # fmt: skip
        seen.add(parent)


def _group(kind: str, group: str, path: Path) -> Iterator[Finding]:
    expected = "mesh" if kind == "ExternalService" else ""
    if group != expected:
        yield Finding((*path, "group") if group else path, "unknown-value",
                      f'kind {kind} is not of group "{group}"',
                      f'write group: "{expected}"')  # fmt: skip


def _rule(rule: Object, path: Path) -> Iterator[Finding]:
    for index, match in enumerate(items(rule, "matches")):
        yield from _match(match, (*path, "matches", index))
    prefix = _is_one_prefix(rule)
    yield from _filters(rule, path, prefix)
    types = [text(item, "type") for item in items(rule, "filters")]
    backends = items(rule, "backendRefs")
    if "RequestRedirect" in types and backends:
        yield Finding((*path, "backendRefs"), "not-allowed",
                      "a rule that redirects sends nothing to backends",
                      "remove backendRefs or the RequestRedirect filter", key=True)  # fmt: skip
    for index, backend in enumerate(backends):
        yield from _backend(backend, (*path, "backendRefs", index), prefix)
    yield from _timeouts(section(rule, "timeouts"), (*path, "timeouts"))


def _is_one_prefix(rule: Object) -> bool:
    """Whether there is exactly one match and its path is a prefix (as the default is)."""
    matches = items(rule, "matches")
    if len(matches) > 1:
        return False
    path = section(matches[0], "path") if matches else {}
    return text(path, "type", "PathPrefix") == "PathPrefix"


def _match(match: Object, path: Path) -> Iterator[Finding]:
    given = section(match, "path")
    if given:
        place = (*path, "path", "value") if "value" in given else (*path, "path")
        kind = text(given, "type", "PathPrefix")
        yield from _path_value(kind, text(given, "value", "/"), place)
    for name, fold in (("headers", True), ("queryParams", False)):
        seen: set[str] = set()
        for index, item in enumerate(items(match, name)):
            place = (*path, name, index)
            key = text(item, "name").lower() if fold else text(item, "name")
            if key in seen:
                yield Finding((*place, "name"), "duplicate-item",
                              f'"{text(item, "name")}" is listed twice in one match',
                              "all of a match's items must hold; keep one")  # fmt: skip
            seen.add(key)
            if text(item, "type") == "RegularExpression":
                yield from _regex(text(item, "value"), (*place, "value"))


def _path_value(kind: str, value: str, path: Path) -> Iterator[Finding]:
    if kind == "RegularExpression":
        yield from _regex(value, path)
    elif not value.startswith("/"):
        yield Finding(path, "bad-format", f'path "{value}" does not begin with "/"',
                      f'write "/{value}"')  # fmt: skip
    elif match := _PATH_PARTS.search(value):
        yield Finding(path, "bad-format", f'path "{value}" contains "{match[0]}"',
                      "paths are normalized before they are matched: write it plain")  # fmt: skip
    elif not _PATH.fullmatch(value):
        yield Finding(path, "bad-format", f'path "{value}" has a character that no path has',
                      "write it percent-encoded, without the query")  # fmt: skip


def _regex(pattern: str, path: Path) -> Iterator[Finding]:
    reason = refusal(pattern) if pattern else "it is empty"
    if reason:
        yield Finding(path, "bad-regex", f"not a regular expression of RE2: {reason}")


def _backend(backend: Object, path: Path, prefix: bool) -> Iterator[Finding]:
    kind, group = text(backend, "kind", "Service"), text(backend, "group")
    yield from _group(kind, group, path)
    if kind == "Service" and "port" not in backend:
        yield Finding(path, "missing-field", 'a Service backend needs "port"',
                      "port: the port of the Service")  # fmt: skip
    yield from _filters(backend, path, prefix)


def _filters(data: Object, path: Path, prefix: bool) -> Iterator[Finding]:
    seen: set[str] = set()
    for index, item in enumerate(items(data, "filters")):
        place, kind = (*path, "filters", index), text(item, "type")
        if kind in seen:
            yield Finding(place, "duplicate-item", f"a second {kind} filter",
                          "put both into one filter")  # fmt: skip
        seen.add(kind)
        if {"RequestRedirect", "URLRewrite"} <= seen and kind in ("RequestRedirect", "URLRewrite"):
            yield Finding(place, "not-allowed", "RequestRedirect and URLRewrite exclude each other",
                          "keep one of the two")  # fmt: skip
        yield from _filter(item, kind, place, prefix)


def _filter(item: Object, kind: str, path: Path, prefix: bool) -> Iterator[Finding]:
    wanted = _FIELDS[kind]
    if wanted not in item:
        yield Finding(path, "missing-field", f'a {kind} filter needs "{wanted}"')
    for name in item:
        if name not in ("type", wanted):
            yield Finding((*path, name), "not-allowed", f'a {kind} filter has no "{name}"',
                          f"its field is {wanted}", key=True)  # fmt: skip
    body, place = section(item, wanted), (*path, wanted)
    if wanted.endswith("Modifier"):
        yield from _modifier(body, place)
    else:
        yield from _path_modifier(section(body, "path"), (*place, "path"), prefix)


def _modifier(data: Object, path: Path) -> Iterator[Finding]:
    seen: set[str] = set()
    for part in ("set", "add", "remove"):
        names = data.get(part) or []
        for index, item in enumerate(names if isinstance(names, list) else []):
            name = str(item["name"] if isinstance(item, dict) else item)
            place = (*path, part, index)
            if name.lower() in seen:
                yield Finding(place, "duplicate-item", f'header "{name}" is changed twice',
                              "a header is in one of set, add and remove, once")  # fmt: skip
            seen.add(name.lower())
            yield from _reserved(name, place)


def _reserved(name: str, path: Path) -> Iterator[Finding]:
    if name.lower() == "host":
        yield Finding(path, "reserved-header", '"host" is not changed as a header',
                      "use a URLRewrite filter with hostname")  # fmt: skip
    elif _RESERVED.fullmatch(name):
        yield Finding(path, "reserved-header", f'header "{name}" belongs to the proxies',
                      "use a name of your own")  # fmt: skip


def _path_modifier(data: Object, path: Path, prefix: bool) -> Iterator[Finding]:
    if not data:
        return
    kind = text(data, "type")
    wanted = _PATH_FIELDS[kind]
    if wanted not in data:
        yield Finding(path, "missing-field", f'{kind} needs "{wanted}"')
    for name in data:
        if name not in ("type", wanted):
            yield Finding((*path, name), "not-allowed", f'{kind} has no "{name}"',
                          f"its field is {wanted}", key=True)  # fmt: skip
    value = text(data, wanted)
    if re.search(r"[\x00-\x20\x7f?#]", value):
        yield Finding((*path, wanted), "bad-format", f'"{value}" is no path',
                      "write a path without spaces, query and fragment")  # fmt: skip
    if kind == "ReplacePrefixMatch" and not prefix:
        yield Finding(path, "not-allowed",
                      "ReplacePrefixMatch needs exactly one match, of type PathPrefix",
                      "split the rule, or use ReplaceFullPath")  # fmt: skip


def _timeouts(data: Object, path: Path) -> Iterator[Finding]:
    whole, one_try = duration(data, "request"), duration(data, "backendRequest")
    if whole and one_try and one_try > whole:
        yield Finding((*path, "backendRequest"), "out-of-range",
                      "backendRequest is longer than request",
                      "one try fits into the whole request")  # fmt: skip
