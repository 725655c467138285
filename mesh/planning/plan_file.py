"""A plan as a file: everything that `apply` needs, and a checksum against damage.

The first line names the format and the SHA-256 of the rest, which is one JSON value.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from mesh.errors import InputError
from mesh.model.revision import ManifestEntry
from mesh.planning.entries import read_entry, write_entry
from mesh.planning.fields import FieldChange
from mesh.planning.plan import Change, Plan
from mesh.planning.record import serialize

MAGIC = b"mesh-plan 1 sha256:"
_HINT = "make it again with `mesh plan PATH... --out FILE`"


def is_plan_file(data: bytes) -> bool:
    """Whether these are (the first) bytes of a plan file, whole or damaged."""
    return data.startswith(b"mesh-plan ")


def write_plan(plan: Plan) -> bytes:
    """The file of a plan; `read_plan` is the inverse."""
    body = serialize(
        {
            "base": plan.base,
            "base_change": plan.base_change,
            "source": plan.source,
            "documents": plan.documents,
            "commit": plan.commit,
            "changes": [_change(change) for change in plan.changes],
            "moved": [_entry(entry) for entry in plan.moved],
            "objects": {
                digest: data.decode("utf-8", "surrogatepass")
                for digest, data in plan.objects.items()
            },
        }
    )
    return MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def read_plan(data: bytes) -> Plan:
    """Read a plan file.

    Raises:
        InputError: it is damaged, was edited, or another version of mesh wrote it.
    """
    if not data.startswith(MAGIC):
        raise InputError("this plan file is of a format that this mesh does not know", _HINT)
    first, _, body = data.partition(b"\n")
    if first.removeprefix(MAGIC) != hashlib.sha256(body).hexdigest().encode():
        raise InputError("the plan file is damaged or was edited: its checksum is wrong", _HINT)
    try:
        plan = _plan(json.loads(body))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"the plan file cannot be read: {error}", _HINT) from error
    _check_objects(plan)
    return plan


def _check_objects(plan: Plan) -> None:
    """Each object is what its digest says, and no change lacks its own."""
    for digest, canonical in plan.objects.items():
        if hashlib.sha256(canonical).hexdigest() != digest:
            raise InputError(f'the plan file\'s object "{digest}" was edited', _HINT)
    for change in plan.changes:
        if change.after is not None and change.after.digest not in plan.objects:
            raise InputError(f"the plan file lacks the content of {change.key}", _HINT)


def _change(change: Change) -> dict[str, object]:
    return {
        "before": None if change.before is None else _entry(change.before),
        "after": None if change.after is None else _entry(change.after),
        "fields": [[item.path, item.before, item.after] for item in change.fields],
    }


def _entry(entry: ManifestEntry) -> dict[str, object]:
    return {"kind": entry.key.kind, "namespace": entry.key.namespace, **write_entry(entry)}


def _plan(value: Mapping[str, Any]) -> Plan:
    return Plan(
        base=int(value["base"]),
        base_change=value["base_change"],
        source=value["source"],
        documents=int(value["documents"]),
        commit=value["commit"],
        changes=tuple(_read_change(item) for item in value["changes"]),
        moved=tuple(_read_entry(item) for item in value["moved"]),
        objects={
            digest: text.encode("utf-8", "surrogatepass")
            for digest, text in value["objects"].items()
        },
    )


def _read_change(value: Mapping[str, Any]) -> Change:
    before, after = value["before"], value["after"]
    return Change(
        before=None if before is None else _read_entry(before),
        after=None if after is None else _read_entry(after),
        fields=tuple(FieldChange(*item) for item in value["fields"]),
    )


def _read_entry(value: Mapping[str, Any]) -> ManifestEntry:
    return read_entry(value["namespace"], value["kind"], value)
