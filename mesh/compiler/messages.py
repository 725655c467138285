"""Generated JSON as protobuf messages.

protobuf's own `ParseDict` says the same, a field at a time in Python: it was a quarter of what an
agent's start costs (`docs/decisions`). A message's constructor takes nested dicts and fills the
fields in C; what is left to do here is what proto3 JSON writes otherwise than a constructor reads,
and what a constructor lets pass: two fields of one `oneof`, text where a list belongs.
"""

from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final, TypeVar, cast

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pool import Default
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from mesh.compiler.generated import JSON

_Convert = Callable[[Any], Any]
M = TypeVar("M", bound=Message)

_WRAPPERS: Final = frozenset(
    f"google.protobuf.{name}Value"
    for name in ("Bool", "Double", "Float", "Int32", "Int64", "String", "UInt32", "UInt64")
)


def parsed(kind: type[M], content: JSON) -> M:
    """`content`, in the shape of Envoy's documentation, as a message.

    Raises:
        ValueError: it is not what the message's definition says: a name that it does not have, a
            value of another type, two of a choice, an `@type` that is not imported.
    """
    try:
        return kind(**_arguments(cast(Descriptor, kind.DESCRIPTOR), content))
    except (AttributeError, LookupError, TypeError) as error:
        raise ValueError(str(error)) from error


@dataclass(frozen=True)
class _Plan:
    """What a message asks for beside its constructor: fields whose values are not taken as JSON
    has them, and the fields of each choice.
    """

    converts: Mapping[str, _Convert]
    choices: tuple[frozenset[str], ...]


@cache
def _plan(of: Descriptor) -> _Plan:
    converts = {field.name: _field(field) for field in of.fields}
    return _Plan(
        {name: convert for name, convert in converts.items() if convert is not None},
        tuple(frozenset(field.name for field in choice.fields) for choice in of.oneofs),
    )


def _arguments(of: Descriptor, content: JSON) -> dict[str, Any]:
    """What the constructor takes."""
    plan = _plan(of)
    for choice in plan.choices:
        if len(found := choice & content.keys()) > 1:
            raise ValueError(f"{of.full_name} has only one of {', '.join(sorted(found))}")
    converts = plan.converts
    return {
        name: converts[name](value) if name in converts and value is not None else value
        for name, value in content.items()
    }


def _field(field: FieldDescriptor) -> _Convert | None:
    """How a value of this field is written; none if as it is."""
    of = field.message_type
    if of is not None and of.GetOptions().map_entry:
        return partial(_each_value, _field(of.fields_by_name["value"]))
    convert: _Convert | None = None
    if of is not None:
        convert = _message(of)
    elif field.type == FieldDescriptor.TYPE_BYTES:
        convert = b64decode
    return partial(_each, convert) if field.is_repeated else convert


def _each(convert: _Convert | None, values: list[Any]) -> list[Any]:
    if not isinstance(values, list):
        raise TypeError(f"{values!r} is no list")
    return values if convert is None else [convert(value) for value in values]


def _each_value(convert: _Convert | None, values: dict[str, Any]) -> dict[str, Any]:
    return values if convert is None else {key: convert(value) for key, value in values.items()}


def _message(of: Descriptor) -> _Convert:
    """How a value of this message is written; well-known ones as proto3 JSON has them."""
    name = of.full_name
    if name in _WRAPPERS:
        return _wrapped
    if name == Duration.DESCRIPTOR.full_name:
        return _duration
    if name == AnyMessage.DESCRIPTOR.full_name:
        return _any
    if name.startswith("google.protobuf."):
        return partial(_well_known, GetMessageClass(of))
    return partial(_arguments, of)


def _wrapped(value: Any) -> dict[str, Any]:
    return {"value": value}


@cache
def _duration(text: str) -> Duration:
    """Shared: the constructor copies it."""
    duration = Duration()
    duration.FromJsonString(text)
    return duration


def _well_known(kind: type[Message], value: Any) -> Message:
    return ParseDict(value, kind())


def _any(value: JSON) -> dict[str, Any]:
    content = dict(value)
    url = content.pop("@type")
    of = Default().FindMessageTypeByName(url.rpartition("/")[2])
    body = parsed(GetMessageClass(of), content)
    return {"type_url": url, "value": body.SerializeToString(deterministic=True)}
