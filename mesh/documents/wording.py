"""Mistakes in words: what is wrong, where, and what to do, for each rule of a schema."""

import difflib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from mesh.diagnostics import Diagnostic, Position, Severity
from mesh.documents.parser import Document
from mesh.documents.values import Path, Value

if TYPE_CHECKING:
    import jsonschema_rs

_TYPES = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "object": "a mapping",
    "array": "a list",
    "null": "nothing",
}
_SHOWN = 60
_LISTED = 100


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake at a path of a document; `key` points at the key instead of the value.

    `suggestion` is the name that was meant, `missing` the name that is not there.
    """

    path: Path
    code: str
    message: str
    hint: str = ""
    key: bool = False
    suggestion: str = ""
    missing: str = ""
    related: tuple[tuple[Position, str], ...] = ()
    severity: Severity = Severity.ERROR

    def diagnostic(self, document: Document) -> Diagnostic:
        """The finding at its place in the file."""
        place = document.key_place(self.path) if self.key else document.place(self.path)
        return Diagnostic(place, self.severity, self.code, self.message, self.hint, self.related)


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that was most likely meant; empty if none is near."""
    names = list(known)
    if len(name) > _SHOWN:
        return ""
    folded = {item.lower(): item for item in names}
    if name.lower() in folded:
        return folded[name.lower()]
    return next(iter(difflib.get_close_matches(name, names, 1, 0.6)), "")


def one_of(names: Iterable[object]) -> str:
    """Names for a sentence, in their order."""
    return ", ".join(str(name) if name != "" else '""' for name in names)


def where(kind: str, path: Path) -> str:
    """A path as people write it: `HTTPRoute.spec.rules[0].matches`."""
    steps = [f"[{step}]" if isinstance(step, int) else f".{step[:_SHOWN]}" for step in path]
    return kind + "".join(steps)


def shown(value: Value) -> str:
    """A value for a message, short."""
    if isinstance(value, str):
        short = value if len(value) <= _SHOWN else value[:_SHOWN] + "..."
        return '"' + "".join(char if char.isprintable() else "?" for char in short) + '"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if value is None:
        return "nothing"
    return "a list" if isinstance(value, list) else "a mapping"


@dataclass(frozen=True, slots=True)
class _Broken:
    """A broken rule of a schema: the rule's schema object, where, and the value there."""

    kind: str
    path: Path
    value: Value
    schema: dict[str, Value]
    document: Document
    rule: "jsonschema_rs.ValidationErrorKind"

    @property
    def where(self) -> str:
        return where(self.kind, self.path)


def phrase(
    error: "jsonschema_rs.ValidationError",
    kind: str,
    schema: dict[str, Value],
    document: Document,
) -> list[Finding]:
    """The findings that an error of the validator stands for.

    `schema` is the schema object that holds the broken keyword.
    """
    path: Path = tuple(error.instance_path)
    value = cast("Value", error.instance)
    broken = _Broken(kind, path, value, schema, document, error.kind)
    return _WORDS[error.kind.name](broken)


def _unknown(broken: _Broken) -> list[Finding]:
    rules = cast("dict[str, dict[str, Value]]", broken.schema.get("properties", {}))
    known = [name for name, rule in rules.items() if "doNotSuggest" not in rule]
    names = cast("Sequence[str]", getattr(broken.rule, "unexpected", ()))
    findings = []
    for name in names[:_LISTED]:
        near = nearest(name, known)
        hint = f'did you mean "{near}"?' if near else f"its fields are {one_of(known)}"
        message = f"{shown(name)} is not a field of {broken.where}"
        findings.append(Finding((*broken.path, name), "unknown-field", message, hint, True, near))
    return findings


def _missing(broken: _Broken) -> list[Finding]:
    name = cast("str", getattr(broken.rule, "property", ""))
    message = f'{broken.where} needs "{name}"'
    rules = cast("dict[str, dict[str, Value]]", broken.schema.get("properties", {}))
    rule = rules.get(name, {})
    if "enum" in rule:
        hint = f"one of {one_of(cast('list[Value]', rule['enum']))}"
    elif example := _example(rule):
        hint = f"such as {name}: {example}"
    else:
        hint = f"{name}: {rule['description']}" if "description" in rule else ""
    return [Finding(broken.path, "missing-field", message, hint, missing=name)]


def _example(schema: dict[str, Value]) -> str:
    """A value that the schema takes, as people write it on one line; empty where it has none."""
    if isinstance(examples := schema.get("examples"), list):
        return flow(examples[0])
    if isinstance(item := schema.get("items"), dict):
        within = _example(item)
        return f"[{within}]" if within else ""
    if isinstance(choices := schema.get("enum"), list):
        return flow(choices[0])
    rules = cast("dict[str, dict[str, Value]]", schema.get("properties", {}))
    needed = [str(name) for name in cast("list[Value]", schema.get("required", []))]
    parts = {name: _example(rules.get(name, {})) for name in needed}
    is_whole = parts and all(parts.values())
    return "{" + ", ".join(f"{k}: {v}" for k, v in parts.items()) + "}" if is_whole else ""


def flow(value: Value) -> str:
    """A value as YAML on one line."""
    match value:
        case dict():
            return "{" + ", ".join(f"{key}: {flow(part)}" for key, part in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(flow, value)) + "]"
        case str() if re.fullmatch(r"[A-Za-z/][-./\w]*|\d+[a-z]\w*", value):
            return value
        case _:
            return json.dumps(value)


def _type(broken: _Broken) -> list[Finding]:
    types = cast("Sequence[str]", getattr(broken.rule, "types", ()))
    wanted = " or ".join(_TYPES.get(name, name) for name in types)
    raw = broken.document.raw(broken.path)
    hint = ""
    if "string" in types and raw and not isinstance(broken.value, str):
        hint = _as_text(broken, raw)
    elif isinstance(broken.value, str) and not {"object", "array"} & set(types):
        hint = "write it without quotes" if _is_plain(broken.value, types) else ""
    elif "array" in types and isinstance(broken.value, dict):
        hint = 'begin each item with "- "'
    if not hint and {"object", "array"} & set(types) and (example := _example(broken.schema)):
        is_item = "array" in types and isinstance(broken.value, str) and "{" not in example
        hint = f"write [{flow(broken.value)}]" if is_item else f"such as {example}"
    given = raw if raw and not isinstance(broken.value, str) else shown(broken.value)
    message = f"{broken.where} must be {wanted}, not {given}"
    return [Finding(broken.path, "wrong-type", message, hint)]


def _as_text(broken: _Broken, raw: str) -> str:
    """What to write for a number or a word of YAML's own where text is wanted."""
    pattern = broken.schema.get("pattern")
    if pattern is None or re.search(cast("str", pattern), raw):
        return f'quote it: "{raw}"'
    return f"write {broken.schema.get('x-pattern-words', 'text')}"


def _is_plain(value: str, types: Sequence[str]) -> bool:
    if "boolean" in types:
        return value in ("true", "false")
    return value.removeprefix("-").isdigit()


def _enum(broken: _Broken) -> list[Finding]:
    allowed = cast("Sequence[Value]", getattr(broken.rule, "options", ()))
    later = cast("dict[str, str]", broken.schema.get("x-not-supported-values", {}))
    value = broken.value
    if isinstance(value, str) and value in later:
        message = f"{broken.where} {shown(value)} is not supported yet"
        return [Finding(broken.path, "not-supported-yet", message, later[value])]
    near = nearest(value, [str(item) for item in allowed]) if isinstance(value, str) else ""
    hint = f'did you mean "{near}"?' if near else ""
    message = f"{broken.where} is {shown(value)}, not one of {one_of(allowed)}"
    return [Finding(broken.path, "unknown-value", message, hint)]


def _constant(broken: _Broken) -> list[Finding]:
    expected = cast("Value", getattr(broken.rule, "expected_value", None))
    message = f"{broken.where} must be {shown(expected)}, not {shown(broken.value)}"
    return [Finding(broken.path, "unknown-value", message)]


def _pattern(broken: _Broken) -> list[Finding]:
    words = broken.schema.get("x-pattern-words", f"text like {broken.schema.get('pattern')}")
    message = f"{broken.where} is {shown(broken.value)}"
    return [Finding(broken.path, "bad-format", message, f"write {words}")]


def _range(broken: _Broken) -> list[Finding]:
    low, high = broken.schema.get("minimum"), broken.schema.get("maximum")
    message = f"{broken.where} is {shown(broken.value)}, not between {low} and {high}"
    return [Finding(broken.path, "out-of-range", message)]


def _length(broken: _Broken) -> list[Finding]:
    size = len(cast("str", broken.value))
    low, high = broken.schema.get("minLength", 0), broken.schema.get("maxLength")
    message = f"{broken.where} has {size} characters, not {low} to {high}"
    return [Finding(broken.path, "wrong-length", message)]


def _count(broken: _Broken) -> list[Finding]:
    size = len(cast("list[Value]", broken.value))
    is_list = isinstance(broken.value, list)
    low, high = ("minItems", "maxItems") if is_list else ("minProperties", "maxProperties")
    limits = f"at least {broken.schema.get(low, 0)}"
    if high in broken.schema:
        limits += f" and at most {broken.schema[high]}"
    what = "items" if is_list else "fields"
    message = f"{broken.where} has {size} {what}, not {limits}"
    rules = cast("dict[str, dict[str, Value]]", broken.schema.get("properties", {}))
    known = [name for name, rule in rules.items() if "doNotSuggest" not in rule]
    return [
        Finding(broken.path, "wrong-count", message, f"one of {one_of(known)}" if known else "")
    ]


def _unique(broken: _Broken) -> list[Finding]:
    values = cast("list[Value]", broken.value)
    index = next((i for i, value in enumerate(values) if value in values[:i]), 0)
    message = f"{broken.where} has {shown(values[index])} twice"
    return [Finding((*broken.path, index), "duplicate-item", message, "keep one of the two")]


def _refused(broken: _Broken) -> list[Finding]:
    text = cast("str", broken.schema.get("x-not-allowed", ""))
    if text:
        message = f"{broken.where} is not allowed"
        return [Finding(broken.path, "not-allowed", message, text, key=True)]
    hint = cast("str", broken.schema.get("x-not-supported", ""))
    message = f"{broken.where} is not supported yet"
    return [Finding(broken.path, "not-supported-yet", message, hint, key=True)]


_WORDS: dict[str, Callable[[_Broken], list[Finding]]] = {
    "additionalProperties": _unknown,
    "required": _missing,
    "type": _type,
    "enum": _enum,
    "const": _constant,
    "pattern": _pattern,
    "minimum": _range,
    "maximum": _range,
    "minLength": _length,
    "maxLength": _length,
    "minItems": _count,
    "maxItems": _count,
    "minProperties": _count,
    "maxProperties": _count,
    "uniqueItems": _unique,
    "not": _refused,
}
