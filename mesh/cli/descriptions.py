"""What bears on a document, as text and as JSON."""

import json
from collections.abc import Iterator

from mesh.cli import console
from mesh.cli.console import BOLD, JSON, paint
from mesh.documents.codec import to_yaml
from mesh.model.policy import Kind, Target
from mesh.operations.inspection import Description


def show_description(found: Description, *, as_json: bool) -> None:
    """Print a description."""
    if as_json:
        console.say_json(_json(found))
        return
    console.say("\n".join(_text(found)))


def _text(found: Description) -> Iterator[str]:
    entry = found.entry
    yield paint(str(found.key), BOLD)
    if entry is None:
        yield "  no document: an http service on port 80 that the mesh's default decides about"
    else:
        yield f"  from      {entry.position.file}:{entry.line}, source {entry.source}"
        yield f"  since     revision {entry.introduced}"
    for relation in found.relations:
        other = relation.entry
        yield f"  {relation.how:<9} {other.key}  {other.file}:{other.line}"
    if found.key.kind == Kind.SERVICE:
        yield f"  callers   {_names(found.callers) or 'nobody'}"
        yield f"  may call  {_names(found.may_call) or 'nothing'}"
    elif found.callers:
        yield f"  callers   {_names(found.callers)}"
    for member in found.members:
        yield f"  sidecar   {member.status.id}  {member.state(found.head)}"
    if found.canonical is not None:
        yield ""
        yield from to_yaml(found.canonical).rstrip().splitlines()


def _names(targets: tuple[Target, ...]) -> str:
    return ", ".join(_name(target) for target in targets)


def _name(target: Target) -> str:
    match target.kind:
        case Kind.MESH:
            return "every service"
        case Kind.NAMESPACE:
            return f"every service of {target.namespace}"
        case Kind.SERVICE | Kind.EXTERNAL_SERVICE:
            return f"{target.namespace}/{target.name}"


def _json(found: Description) -> JSON:
    entry = found.entry
    return {
        "kind": found.key.kind,
        "namespace": found.key.namespace,
        "name": found.key.name,
        "file": entry.file if entry else None,
        "line": entry.line if entry else None,
        "source": entry.source if entry else None,
        "introduced": entry.introduced if entry else None,
        "document": json.loads(found.canonical) if found.canonical else None,
        "relations": [
            {
                "relation": relation.how,
                "kind": relation.entry.key.kind,
                "namespace": relation.entry.key.namespace,
                "name": relation.entry.key.name,
                "file": relation.entry.file,
                "line": relation.entry.line,
                "source": relation.entry.source,
            }
            for relation in found.relations
        ],
        "callers": [_target(target) for target in found.callers],
        "may_call": [_target(target) for target in found.may_call],
        "sidecars": [
            {"id": member.status.id, "state": member.state(found.head).value}
            for member in found.members
        ],
    }


def _target(target: Target) -> JSON:
    return {"kind": target.kind.value, "namespace": target.namespace, "name": target.name}
