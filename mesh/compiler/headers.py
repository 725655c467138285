"""Header modifiers and header matches as Envoy says them."""

from collections.abc import Iterable, Sequence
from typing import Literal

from mesh.compiler.generated import JSON
from mesh.model.policy import Filters, HeaderModifier, ValueMatch, ValueMatchType

_SET = "OVERWRITE_IF_EXISTS_OR_ADD"
_ADD = "APPEND_IF_EXISTS_OR_ADD"


def modifications(filters: Filters, *, strip: Iterable[str] = ()) -> JSON:
    """The header fields of a route or of a weighted cluster; empty if there is nothing to do.

    `strip` are further response headers to remove.
    """
    fields = dict(_fields("request", filters.request_headers))
    fields |= _fields("response", filters.response_headers)
    if stripped := [*fields.get("response_headers_to_remove", ()), *strip]:
        fields["response_headers_to_remove"] = stripped
    return fields


def response_header(name: str, value: str) -> JSON:
    """The field of a route that sets one header of its answer."""
    return {"response_headers_to_add": [_option(name, value, _SET)]}


def string_match(match: ValueMatch) -> JSON:
    """A StringMatcher: an exact value, or an RE2 expression for the whole value."""
    if match.type is ValueMatchType.EXACT:
        return {"exact": match.value}
    return {"safe_regex": {"regex": match.value}}


def matchers(matches: Sequence[ValueMatch]) -> list[JSON]:
    """One matcher for each header or query parameter; Gateway API ignores a second one of a name,
    header names without regard to case.
    """
    first: dict[str, ValueMatch] = {}
    for each in matches:
        first.setdefault(each.name, each)
    return [{"name": name, "string_match": string_match(each)} for name, each in first.items()]


def _fields(side: Literal["request", "response"], modifier: HeaderModifier | None) -> JSON:
    if modifier is None:
        return {}
    options = [_option(name, value, _SET) for name, value in modifier.set]
    options += [_option(name, value, _ADD) for name, value in modifier.add]
    fields: dict[str, object] = {}
    if options:
        fields[f"{side}_headers_to_add"] = options
    if modifier.remove:
        fields[f"{side}_headers_to_remove"] = list(modifier.remove)
    return fields


def _option(name: str, value: str, action: str) -> JSON:
    """Envoy expands `%...%` in a value, and refuses a lone `%`."""
    return {
        "header": {"key": name, "value": value.replace("%", "%%")},
        "append_action": action,
        "keep_empty_value": True,
    }
