"""Documents against the JSON Schema of their kind."""

import functools
import importlib.resources
import itertools
import json
from collections.abc import Iterator, Mapping
from typing import cast

import jsonschema_rs

from mesh.diagnostics import Diagnostic, Severity
from mesh.documents.foreign import counterpart
from mesh.documents.parser import Document
from mesh.documents.salvage import Remnant, salvage
from mesh.documents.values import Path, Value
from mesh.documents.wording import Finding, nearest, one_of, phrase, shown

Schema = dict[str, Value]

# Of one document; enough for a person, and few enough for bounded time.
MAX_MISTAKES = 1000

MESH_API = "mesh/v1"
GATEWAY_API = "gateway.networking.k8s.io/v1"
API_VERSIONS: Mapping[str, str] = {
    "Mesh": MESH_API,
    "Service": MESH_API,
    "ExternalService": MESH_API,
    "HTTPRoute": GATEWAY_API,
    "TrafficPolicy": MESH_API,
    "AccessPolicy": MESH_API,
}
# Kinds that the mesh will have or that people bring along, with what to use until then.
LATER_KINDS: Mapping[str, str] = {
    "GRPCRoute": "use an HTTPRoute: a gRPC method is the path /package.Service/Method",
    "TCPRoute": "name the Service itself: a tcp service has a port of its own at the caller",
    "TLSRoute": "use a Service with protocol tcp",
    "Gateway": "route to a Service; there is no gateway yet",
    "JWTPolicy": "let the application check end users' tokens",
    "RateLimitPolicy": "use TrafficPolicy.spec.limits",
    "FaultPolicy": "leave it out",
    "TelemetryPolicy": "leave it out; metrics and logs have their defaults",
    "PolicyTest": "leave it out",
}
# Kinds of Gateway API that say what the mesh says otherwise; read past, with a warning.
IGNORED_KINDS: Mapping[str, str] = {
    "ReferenceGrant": "remove it: AccessPolicy is the boundary between namespaces",
}
_GATEWAY_GROUP = "gateway.networking.k8s.io/"


@functools.cache
def load(kind: str) -> Schema:
    """The schema of a kind, every `$ref` replaced by what it refers to.

    The files are package data in a wheel and beside the package in a checkout.
    """
    return cast("Schema", _expand(_file(f"{kind}.json"), kind))


@functools.cache
def _file(name: str) -> Schema:
    package = importlib.resources.files("mesh")
    folder = package / "schemas"
    if not folder.is_dir():
        folder = package / ".." / "schemas"
    return cast("Schema", json.loads((folder / name).read_text(encoding="utf-8")))


def _expand(node: Value, kind: str) -> Value:
    if isinstance(node, list):
        return [_expand(item, kind) for item in node]
    if not isinstance(node, dict):
        return node
    here = {name: _expand(item, kind) for name, item in node.items() if name not in _REFERENCES}
    if "$ref" not in node:
        return here
    file, _, pointer = cast("str", node["$ref"]).partition("#/$defs/")
    home = file.removesuffix(".json") or kind
    definitions = cast("dict[str, Value]", _file(f"{home}.json")["$defs"])
    return {**cast("Schema", _expand(definitions[pointer], home)), **here}


_REFERENCES = ("$ref", "$defs")


@functools.cache
def _validator(kind: str) -> jsonschema_rs.Draft202012Validator:
    # The linear-time engine: a document must not be able to make a pattern slow.
    return jsonschema_rs.Draft202012Validator(
        load(kind), pattern_options=jsonschema_rs.RegexOptions()
    )


def check(document: Document) -> list[Diagnostic]:
    """Every way in which a document breaks the schema of its kind; empty means it holds.

    Warnings do not break it.
    """
    head = _check_head(document)
    if head is not None:
        return [head]
    kind = cast("str", document.data["kind"])
    validator = _validator(kind)
    found = [] if validator.is_valid(document.data) else _broken(validator, kind, document)
    return found + list(_ignored(document, kind))


def is_ignored(document: Document) -> bool:
    """Whether the document is of a kind that is accepted and has no meaning here."""
    version = document.data.get("apiVersion")
    is_gateway_api = isinstance(version, str) and version.startswith(_GATEWAY_GROUP)
    return is_gateway_api and document.data.get("kind") in IGNORED_KINDS


def without_meaning(document: Document) -> Diagnostic:
    """The warning about a document that `is_ignored`."""
    kind = cast("str", document.data["kind"])
    message = f"a {kind} has no meaning here and is left out"
    finding = Finding(
        ("kind",), "ignored-field", message, IGNORED_KINDS[kind], severity=Severity.WARNING
    )
    return finding.diagnostic(document)


def remnant_of(document: Document) -> Remnant | None:
    """What the schema leaves of a document that breaks it; None if nothing can be made of it."""
    if _check_head(document) is not None:
        return None
    return salvage(document, _validator(cast("str", document.data["kind"])))


def _broken(
    validator: jsonschema_rs.Draft202012Validator, kind: str, document: Document
) -> list[Diagnostic]:
    findings: list[Finding] = []
    for error in itertools.islice(validator.iter_errors(document.data), MAX_MISTAKES):
        schema = _at(load(kind), error.schema_path[:-1])
        findings += phrase(error, kind, schema, document)
    return [finding.diagnostic(document) for finding in _without_noise(findings)]


def _without_noise(findings: list[Finding]) -> Iterator[Finding]:
    """A misspelt field is not reported as missing too, nor is one mistake told twice."""
    suggested = {(finding.path[:-1], finding.suggestion) for finding in findings}
    seen: set[tuple[Path, str]] = set()
    for finding in findings:
        if finding.code == "missing-field" and (finding.path, finding.missing) in suggested:
            continue
        # A filter of a type that is not supported has a field that is not supported either.
        place = finding.path[:-1] if finding.code == "not-supported-yet" else finding.path
        token = (place, f"{finding.code} {finding.missing}")
        if token not in seen:
            seen.add(token)
            yield finding


def _at(schema: Schema, path: list[str | int]) -> Schema:
    node: Value = schema
    for step in path:
        node = node[str(step)] if isinstance(node, dict) else cast("list[Value]", node)[int(step)]
    return cast("Schema", node)


def _check_head(document: Document) -> Diagnostic | None:
    """What must be right before a schema can be chosen."""
    data = document.data
    for name in ("apiVersion", "kind"):
        if not isinstance(data.get(name), str):
            hint = f"the kinds are {one_of(API_VERSIONS)}"
            code, path = "missing-field", (name,) if name in data else ()
            return Finding(path, code, f'a document needs "{name}"', hint).diagnostic(document)
    kind, version = cast("str", data["kind"]), cast("str", data["apiVersion"])
    if kind in LATER_KINDS:
        message = f"kind {kind} is not supported yet"
        return Finding(("kind",), "not-supported-yet", message, LATER_KINDS[kind]).diagnostic(
            document
        )
    expected = API_VERSIONS.get(kind)
    if expected is None:
        near = nearest(kind, API_VERSIONS)
        hint = f'did you mean "{near}"?' if near else f"the kinds are {one_of(API_VERSIONS)}"
        hint = counterpart(kind, version) or hint
        return Finding(("kind",), "unknown-kind", f"{shown(kind)} is not a kind", hint).diagnostic(
            document
        )
    if version != expected:
        message = f"{shown(version)} is not the apiVersion of {kind}"
        foreign = expected == MESH_API and counterpart(kind, version)
        hint = foreign or f'write "{expected}"'
        return Finding(("apiVersion",), "unknown-api-version", message, hint).diagnostic(document)
    return None


def _ignored(document: Document, kind: str) -> Iterator[Diagnostic]:
    """What Kubernetes writes into documents and the mesh does not keep, said aloud."""
    properties = cast("dict[str, Schema]", load(kind)["properties"])
    metadata = document.data.get("metadata")
    sections: list[tuple[Path, Value, dict[str, Schema]]] = [((), document.data, properties)]
    if isinstance(metadata, dict):
        inner = cast("dict[str, Schema]", properties["metadata"]["properties"])
        sections.append((("metadata",), metadata, inner))
    for path, data, known in sections:
        for name in cast("dict[str, Value]", data):
            if known.get(name, {}).get("x-ignored"):
                message = f'"{name}" has no meaning here and is left out'
                finding = Finding(
                    (*path, name),
                    "ignored-field",
                    message,
                    "remove it",
                    key=True,
                    severity=Severity.WARNING,
                )
                yield finding.diagnostic(document)
