"""Checking documents in tests, and making them from their schemas."""

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from hypothesis import strategies as st

from mesh.documents.front_end import Result, front_end
from mesh.documents.parser import SourceText
from mesh.documents.schema import Schema, load
from mesh.documents.values import Value

ROOT = Path(__file__).parents[2]
KINDS = ("Mesh", "Service", "ExternalService", "HTTPRoute", "TrafficPolicy", "AccessPolicy")

SERVICES = """
apiVersion: mesh/v1
kind: Service
metadata: {name: api}
spec: {protocol: http, port: 80}
---
apiVersion: mesh/v1
kind: Service
metadata: {name: ledger}
spec: {protocol: tcp, port: 7000}
---
apiVersion: mesh/v1
kind: Service
metadata: {name: api-v2}
spec: {protocol: http, port: 80, instances: {service: api, meta: {version: v2}}}
"""


def check(*texts: str, partial: bool = False) -> Result:
    """The front end on texts, named a.yaml, b.yaml and so on."""
    sources = [SourceText(f"{chr(97 + i)}.yaml", text.encode()) for i, text in enumerate(texts)]
    return front_end(sources, partial=partial)


def found(*texts: str) -> list[tuple[str, str]]:
    """`(file:line:column, code)` of each diagnostic, in order."""
    result = check(*texts)
    return [(str(item.position), item.code) for item in result.diagnostics]


def pointed(*texts: str) -> list[tuple[str, str]]:
    """`(the word at the place, code)` of each diagnostic, in order."""
    result = []
    for item in check(*texts).diagnostics:
        text = texts[ord(item.position.file[0]) - 97].splitlines()[item.position.line - 1]
        rest = text[item.position.column - 1 :]
        result.append((re.split(r"[,\]}]", rest)[0], item.code))
    return result


def codes(*texts: str) -> list[str]:
    """The codes of all diagnostics, in order."""
    return [item.code for item in check(*texts).diagnostics]


def route(rules: str, spec: str = "") -> str:
    """An HTTPRoute for Service api with these rules (flow style)."""
    return f"""
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: api}}
spec:
  parentRefs: [{{group: "", kind: Service, name: api}}]
  {spec}
  rules: {rules}
"""


def traffic(spec: str, name: str = "api", target: str = "api") -> str:
    """A TrafficPolicy for a Service; `spec` is further fields in flow style."""
    return f"""
apiVersion: mesh/v1
kind: TrafficPolicy
metadata: {{name: {name}}}
spec: {{targetRefs: [{{kind: Service, name: {target}}}], {spec}}}
"""


def access(
    rules: str, target: str = "{kind: Service, name: api}", namespace: str = "default"
) -> str:
    """An AccessPolicy with these rules (flow style)."""
    return f"""
apiVersion: mesh/v1
kind: AccessPolicy
metadata: {{name: api, namespace: {namespace}}}
spec: {{targetRefs: [{target}], rules: {rules}}}
"""


def together(*texts: str) -> str:
    """Documents as one file."""
    return "\n---\n".join(texts)


# What YAML can hold unescaped (YAML 1.2, section 5.1), line breaks left out.
_PRINTABLE = st.characters(
    exclude_categories=("Cc", "Cs", "Cn", "Zl", "Zp"), exclude_characters="\ufeff"
)


@functools.cache
def documents_of(kind: str) -> st.SearchStrategy[Value]:
    """Documents for which the schema of a kind holds."""
    return from_schema(load(kind))


def from_schema(schema: Schema) -> st.SearchStrategy[Value]:
    """Values for which the schema holds; it reads the keywords that our schemas use."""
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(cast("list[Value]", schema["enum"]))
    types = schema.get("type", "string")
    if isinstance(types, list):
        return st.one_of(*(_typed(schema, cast("str", name)) for name in types))
    return _typed(schema, cast("str", types))


def _typed(schema: Schema, name: str) -> st.SearchStrategy[Value]:
    low, high = schema.get("minimum"), schema.get("maximum")
    match name:
        case "object":
            return _mapping(schema)
        case "array":
            size = cast("int", schema.get("minItems", 0))
            items = from_schema(cast("Schema", schema["items"]))
            unique = repr if schema.get("uniqueItems") else None
            return st.lists(items, min_size=size, max_size=max(size, 2), unique_by=unique)
        case "integer":
            return st.integers(cast("int", low), cast("int", high))
        case "number":
            return st.floats(cast("float", low), cast("float", high), allow_nan=False)
        case "boolean":
            return st.booleans()
        case _:
            return _text(schema)


def _text(schema: Schema) -> st.SearchStrategy[Value]:
    low, high = cast("int", schema.get("minLength", 0)), cast("int", schema.get("maxLength", 64))
    if "pattern" in schema:
        pattern = cast("str", schema["pattern"])
        # Python's $ also matches before a last line break, a schema's does not.
        return st.from_regex(pattern).filter(
            lambda text: low <= len(text) <= high and not text.endswith("\n")
        )
    return st.text(_PRINTABLE, min_size=low, max_size=min(high, 12))


def _mapping(schema: Schema) -> st.SearchStrategy[Value]:
    properties = cast("Mapping[str, Schema]", schema.get("properties", {}))
    usable = {name: rule for name, rule in properties.items() if "not" not in rule}
    if not usable:
        values = from_schema(cast("Schema", schema.get("additionalProperties", {})))
        size = cast("int", schema.get("minProperties", 0))
        return st.dictionaries(st.text(_PRINTABLE, max_size=5), values, min_size=size, max_size=2)
    required = set(cast("list[str]", schema.get("required", [])))
    then = cast("Schema", schema.get("then", {}))
    required |= set(cast("list[str]", then.get("required", [])))
    made = st.fixed_dictionaries(
        {name: from_schema(rule) for name, rule in usable.items() if name in required},
        optional={name: from_schema(rule) for name, rule in usable.items() if name not in required},
    )
    low = cast("int", schema.get("minProperties", 0))
    high = cast("int", schema.get("maxProperties", len(usable)))
    if high < len(usable):
        one = [st.fixed_dictionaries({name: from_schema(rule)}) for name, rule in usable.items()]
        return cast("st.SearchStrategy[Value]", st.one_of(*one))
    return cast("st.SearchStrategy[Value]", made.filter(lambda data: low <= len(data)))
