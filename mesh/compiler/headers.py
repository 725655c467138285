"""Header modifiers and header matches as Envoy says them."""

from collections.abc import Iterable, Sequence
from typing import Literal

from mesh.compiler.generated import JSON
from mesh.model.policy import Filters, HeaderModifier, ValueMatch, ValueMatchType

_SET = "OVERWRITE_IF_EXISTS_OR_ADD"
_ADD = "APPEND_IF_EXISTS_OR_ADD"


def modifications(*filters: Filters, strip: Iterable[str] = ()) -> JSON:
    """The header fields of a route or of a weighted cluster; empty if there is nothing to do.

    `filters` act one after the other, a rule's before its backend's. Envoy has the opposite order
    at any setting, so both go into the backend's place. `strip` are further response headers to
    remove.
    """
    fields = _fields("request", [each.request_headers for each in filters])
    fields |= _fields("response", [each.response_headers for each in filters])
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


def _fields(
    side: Literal["request", "response"], modifiers: Iterable[HeaderModifier | None]
) -> JSON:
    """Envoy removes first, then sets, then adds. Of a name, what a later modifier sets or removes
    is all that is left.
    """
    done = HeaderModifier()
    for each in modifiers:
        done = done if each is None else _then(done, each)
    fields: JSON = {}
    options = [_option(name, value, _SET) for name, value in done.set]
    if options := [*options, *(_option(name, value, _ADD) for name, value in done.add)]:
        fields[f"{side}_headers_to_add"] = options
    if done.remove:
        fields[f"{side}_headers_to_remove"] = list(done.remove)
    return fields


def _then(first: HeaderModifier, second: HeaderModifier) -> HeaderModifier:
    """One modifier that does what `first` and then `second` do."""
    replaced = {name.lower() for name, _ in second.set} | {each.lower() for each in second.remove}

    def kept(pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        return tuple(pair for pair in pairs if pair[0].lower() not in replaced)

    removed = tuple(each for each in first.remove if each.lower() not in replaced)
    return HeaderModifier(
        set=kept(first.set) + second.set,
        add=kept(first.add) + second.add,
        remove=removed + second.remove,
    )


def _option(name: str, value: str, action: str) -> JSON:
    """Envoy expands `%...%` in a value, and refuses a lone `%`."""
    return {
        "header": {"key": name, "value": value.replace("%", "%%")},
        "append_action": action,
        "keep_empty_value": True,
    }
